"""Keypoint R-CNN, by detectron2 or by torchvision."""
