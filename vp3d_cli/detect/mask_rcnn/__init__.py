"""Keypoint R-CNN of detectron2 and of torchvision."""
