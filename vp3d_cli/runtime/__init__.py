"""What runs the networks. Read :mod:`vp3d_cli.runtime.load` first.

``load.py`` picks OpenVINO or onnxruntime and a device; ``openvino_model.py`` and ``onnxruntime_model.py`` run an ONNX
model on them behind one interface (``base.py``). ``onnx_check.py`` checks model files, ``onnx_graph.py`` writes
models, ``compiled_cache.py`` keeps compiled ones. ``devices.py`` has the device names, ``processes.py`` child
processes.
"""
