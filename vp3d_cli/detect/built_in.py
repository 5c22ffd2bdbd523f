"""Registry entries of vp3d's own detectors; importing this module loads no detector."""

from __future__ import annotations

from vp3d_cli.detect.base import DetectorInfo

MOVENET = DetectorInfo(
    "movenet",
    "included: MoveNet MultiPose finds people, MoveNet Thunder tracks each one",
    "Apache-2.0",
    "vp3d_cli.detect.movenet.detector:load",
    requires=("openvino|onnxruntime", "cv2"),
)

MOVENET_FAST = DetectorInfo(
    "movenet-fast",
    "included: as movenet, with the smaller MoveNet Lightning; about half the time, less accurate",
    "Apache-2.0",
    "vp3d_cli.detect.movenet.detector:load",
    requires=("openvino|onnxruntime", "cv2"),
    options={"name": "movenet-fast", "refiner": "movenet-lightning"},
)

CPN = DetectorInfo(
    "cpn",
    "Cascaded Pyramid Network, ResNet-50 or -101, on the boxes of another detector",
    "that of your weights",
    "vp3d_cli.detect.cpn.detector:load",
    requires=("torch", "cv2"),
    extra='pip install "vp3d[train]"',
    usage="cpn:weights=CPN50_384x288.pth.tar,boxes=movenet",
)

MASK_RCNN = DetectorInfo(
    "mask-rcnn",
    "Keypoint R-CNN, R101-FPN, of detectron2; model=R50 for the smaller one",
    "CC-BY-SA-3.0",
    "vp3d_cli.detect.mask_rcnn.detectron2:load",
    extra="pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2 "
    "(docs/detectors.md has every step)",
    requires=("detectron2",),
    usage="mask-rcnn:model=R50,weights=model_final_a6e10b.pkl",
)

MASK_RCNN_TORCHVISION = DetectorInfo(
    "mask-rcnn-torchvision",
    "Keypoint R-CNN, R50-FPN, of torchvision",
    "BSD-3-Clause",
    "vp3d_cli.detect.mask_rcnn.torchvision:load",
    extra="pip install torchvision",
    requires=("torchvision",),
    usage="mask-rcnn-torchvision:weights=keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
)

RTMPOSE = DetectorInfo(
    "rtmpose",
    "RTMPose s, m or l on the boxes of RTMDet-nano; the first use downloads the weights",
    "Apache-2.0",
    "vp3d_cli.detect.rtmpose:load",
    requires=("openvino|onnxruntime", "cv2"),
    usage="rtmpose:model=l",
)
