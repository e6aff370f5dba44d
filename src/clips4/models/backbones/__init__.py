"""Backbones: images to feature maps at four levels of detail.

Every backbone is a module with these attributes, which is all that the student's head and the built-in teacher use:

- ``channels``: width of the four levels;
- ``strides``: pixels of the image per position of each level;
- ``mean``, ``std``: statistics by which its training images were normalized;
- ``architecture``: what a checkpoint's card stores so that the network can be built again; None where the configuration
  suffices;
- ``forward(images)``: (B, 3, H, W) normalized -> four maps (B, channels[i], ~H / strides[i], ~W / strides[i]).

Convolutional networks have levels at strides 4 to 32, and output strides that bound the coarsest by dilation. A vision
transformer has one stride, its patch: its levels are four depths.
"""
