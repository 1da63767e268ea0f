"""text-speedrun: how few CPU seconds a network needs, from random weights, until it writes.

    python -m experiments.speedrun EN --seeds 0 1 2 -o runs/speedrun       run the record of a task again
    python -m experiments.speedrun EN --train my_attempt                   an attempt of your own
    python -m experiments.speedrun --records                               what was reached

Rules (experiments/speedrun/tasks.py has the tasks):

1. The transformer begins with random weights. The autoencoder may be the one that ships; what is trained of it counts.
2. The clock runs on one thread: CPU seconds of the process while images are rendered, encoded and learned from. Loading
   what ships, evaluation and writing files are left out.
3. The number of updates is set beforehand. The weights at the end, or their average, write 192 held-out texts from
   fixed noise, without guidance, in 10 steps. The engine that rewards read with and one that nothing is trained on
   read them.
4. Held-out words and pairs of characters are never shown. Training images may be of any kind that the renderer makes.
5. A record is three seeds, each above both thresholds; its seconds are their mean.
"""
