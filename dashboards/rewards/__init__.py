"""The comparison of rewards, to be looked through: filter, sort, open a disagreement, send it to annotators."""
