# `make demo` and `make test` set everything up by themselves: they need python3 and make, nothing else.
PYTHON ?= python3
VENV   := .venv
LIGHT  := $(VENV)/.light
READY  := $(VENV)/.ready
BIN    := $(VENV)/bin
# torchvision needs the torch that it was built with, so its tests have an environment of their own.
TORCHVISION_VENV := .venv-torchvision
TORCHVISION      := torch==2.14.1 torchvision==0.29.1

.PHONY: help setup demo test coverage docs setup-torchvision test-torchvision clean

help:
	@echo "make demo   turn examples/demo.mp4 into out/pose.npz and out/side-by-side.mp4; installs no torch"
	@echo "make test   ruff, mypy --strict and the tests; installs everything"
	@echo "make coverage  the tests, with the share of the code that they run"
	@echo "make docs   the documentation as a site, in out/docs; warnings are errors"
	@echo "make test-torchvision   the tests of --detector mask-rcnn-torchvision, in $(TORCHVISION_VENV) (5 GB)"
	@echo "make setup  install everything into $(VENV), and run nothing"
	@echo "make clean  remove $(VENV), out and caches"

setup: $(READY)

$(LIGHT): pyproject.toml constraints.txt tools/bootstrap.py
	@VENV=$(VENV) $(PYTHON) tools/bootstrap.py light

$(READY): pyproject.toml constraints.txt tools/bootstrap.py
	@VENV=$(VENV) $(PYTHON) tools/bootstrap.py all

demo: $(LIGHT)
	@mkdir -p out
	@$(BIN)/vp3d infer examples/demo.mp4 --out out/pose.npz --render out/side-by-side.mp4 --overwrite

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto --maxprocesses 8

coverage: $(READY)
	$(BIN)/pytest -n auto --maxprocesses 8 --cov --cov-report=term:skip-covered

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir out/docs

$(VENV)/.docs: $(LIGHT)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt mkdocs-material "mkdocstrings[python]"
	@touch $@

setup-torchvision: $(TORCHVISION_VENV)/.ready

test-torchvision: $(TORCHVISION_VENV)/.ready
	$(TORCHVISION_VENV)/bin/python -m pytest tests/detect/test_mask_rcnn.py tests/detect/test_contract.py

$(TORCHVISION_VENV)/.ready: pyproject.toml constraints.txt tools/bootstrap.py
	@VENV=$(TORCHVISION_VENV) $(PYTHON) tools/bootstrap.py all $(TORCHVISION)

clean:
	rm -rf $(VENV) $(TORCHVISION_VENV) out .mypy_cache .pytest_cache .ruff_cache .hypothesis
