"""What rewards are worth: each file measures one thing about a table of scores and answers. numpy only, no torch."""
