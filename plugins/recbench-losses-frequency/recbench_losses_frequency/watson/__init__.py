"""The losses that Czolbe et al. 2020 built on Watson's perceptual model.

An image is cut into blocks, each channel of a block is transformed, and differences between the coefficients of target
and decoded image are divided by what the eye overlooks there: more in bright blocks (luminance masking), more where the
target has a strong coefficient itself (contrast masking).

equations has the formulas as in the authors' code. The losses compute the same for all channels at once: blocks and
colour lead to coefficients, masking to what is overlooked, dct and dft to the two distances with their gradients,
_kernels to autograd, losses to the classes that recbench calls. Importing this package does not import torch.
"""
