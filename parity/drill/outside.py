"""Faults that the catalogue does not hold: chosen before the explainer was looked at, to measure it on what it ignores.

| key | what a port does | first seen at |
| --- | --- | --- |
| label-smoothing | the loss smooths the labels by 0.1 | loss, 0 |
| class-weighted-loss | the loss weighs the classes | loss, 0 |
| running-mean-loss | the loss that is recorded is the mean of all so far | loss, 1 |
| logits-scaled | a temperature is left in: the outputs are divided by sqrt(84) | logits, 0 |
| fc3-bias-missing | the last layer has no bias | logits, 0 |
| bias-added-twice | conv2 adds its bias, and so does the code around it | activations, 0 |
| bias-after-relu | fc1 rectifies before it adds its bias | activations, 0 |
| pool-offset | pooling windows begin one row and one column later | activations, 0 |
| leaky-relu | ReLU lets 0.01 of what is negative through | activations, 0 |
| flatten-columns-first | features are flattened as (C, W, H) | activations, 0 |
| next-image | the image of each label is the next one's in the set | batch, 0 |
| batch-statistics | images are normalised by their own batch's mean and deviation | batch, 0 |
| flip-left-on | every second image is mirrored, an augmentation that was left on | batch, 0 |
| world-size | gradients are averaged over two workers where there is one | gradients, 0 |
| gradients-centred | each filter's gradient has its mean taken off | gradients, 0 |
| stop-gradient | nothing flows back from fc1 into the convolutions | gradients, 0 |
| clip-each-tensor | each tensor's gradient is clipped by its own norm, not by that of all | gradients, 0 |
| momentum-reset | the optimizer is made anew at each epoch | momentum, first of epoch 1 |
| momentum-warm-up | the momentum factor is 1 - 0.5 / (t + 1) at first | momentum, 1 |
| decay-to-start | weights decay towards where they began, not towards 0 | momentum, 1 |
| debiased-average | an average of gradients, divided by 1 - mu^t | momentum, 0 |
| biases-twice-lr | biases learn at twice the rate, as in Caffe | update, 0 |
| max-norm | each unit's weights are kept within a norm of 0.5 | update, 0 |
| averaged-weights-evaluated | the evaluation reads a moving average of the weights | evaluation, after the steps |
"""
