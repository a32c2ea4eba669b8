# facemark's commands. `make help` lists them. Each installs what it needs and is missing, and says so.

CARGO ?= cargo
# How long `make demo` runs, in seconds of the demo's own clock.
DEMO_SECONDS ?= 10
OUT ?= out/demo

# The linker and C compiler of some Rust crates; the header parser of the camera's; the window's libraries, opened at
# run time; the decoder behind video files.
BUILD_PACKAGES := gcc libc6-dev libclang1
DEMO_PACKAGES := $(BUILD_PACKAGES) libx11-6 libxcursor1
TEST_PACKAGES := $(BUILD_PACKAGES) ffmpeg

.DEFAULT_GOAL := help
.PHONY: help demo test onnxruntime bench packages rust

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: rust ## landmarks on a moving face: in a window, or without a display in a video at a printed path
	@scripts/install-debian-packages.sh $(DEMO_PACKAGES)
	$(CARGO) build --release --locked --bin facemark
	target/release/facemark run --input demo --seconds $(DEMO_SECONDS) --output $(OUT)

test: rust packages onnxruntime ## every test, those of the training side included
	$(CARGO) test --locked --all-features

onnxruntime: ## ONNX Runtime's shared library for facemark-train, into .onnxruntime/
	@scripts/fetch-onnxruntime.sh

bench: rust onnxruntime ## times the released models here, and the training step beside PyTorch's
	@scripts/install-debian-packages.sh $(BUILD_PACKAGES)
	$(CARGO) build --release --locked --bin facemark
	target/release/facemark bench --pipeline

packages: # what building and testing needs
	@scripts/install-debian-packages.sh $(TEST_PACKAGES)

rust:
	@command -v $(CARGO) >/dev/null || { echo "error: $(CARGO) is not there; install Rust: https://rustup.rs" >&2; exit 1; }
