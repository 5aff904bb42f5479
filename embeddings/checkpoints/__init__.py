"""Published weights, in whatever layout they were published, for a network of timm or torchvision.

In: a file or a folder of weights and a network without its head. Out: the network with those weights, every one of
them, or an error that says what the file looks like.
"""
