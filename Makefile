# `make demo` and `make test` set everything up by themselves: they need python3 and make, nothing else.
PYTHON ?= python3
VENV   := .venv
READY  := $(VENV)/.ready
BIN    := $(VENV)/bin

.PHONY: help setup demo test clean

help:
	@echo "make demo   turn examples/demo.mp4 into out/pose.npz and out/side-by-side.mp4"
	@echo "make test   ruff, mypy --strict and the tests"
	@echo "make setup  only install, into $(VENV)"
	@echo "make clean  remove $(VENV), out and caches"

setup: $(READY)

$(READY): pyproject.toml constraints.txt tools/bootstrap.py
	@VENV=$(VENV) $(PYTHON) tools/bootstrap.py

demo: $(READY)
	@mkdir -p out
	@$(BIN)/vp3d infer examples/demo.mp4 --out out/pose.npz --render out/side-by-side.mp4 --overwrite

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto --maxprocesses 8

clean:
	rm -rf $(VENV) out .mypy_cache .pytest_cache .ruff_cache .hypothesis
