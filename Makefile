# facemark's commands. `make help` lists them. Each installs what it needs and is missing, and says so.

CARGO ?= cargo
MINUTES ?= 60
# A soak starts many runs in one process, each with threads of its own. glibc keeps what they freed, in up to eight arenas a
# core, so that memory would seem to grow for an hour; with one arena and a fixed threshold it is what the program holds.
SOAK_MALLOC := MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=131072

# The linker and C compiler of some Rust crates; the header parser of the camera's; the window's libraries, opened at
# run time; the decoder behind video files; `kill`, with which tests interrupt a run.
BUILD_PACKAGES := gcc libc6-dev libclang1
DEMO_PACKAGES := $(BUILD_PACKAGES) libx11-6 libxcursor1
TEST_PACKAGES := $(BUILD_PACKAGES) ffmpeg procps xvfb
# The emulator, what the virtual machine's system is made of, and what a kernel module is built with.
VM_PACKAGES := $(BUILD_PACKAGES) qemu-system-x86 busybox-static cpio kmod v4l-utils ffmpeg

.DEFAULT_GOAL := help
.PHONY: help demo test onnxruntime bench soak test-vm test-vm-slow vm arm test-arm packages rust

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: rust ## landmarks on a moving face: in a window, or without a display in files at a printed path
	@scripts/install-debian-packages.sh $(DEMO_PACKAGES)
	$(CARGO) build --release --locked --bin facemark
	target/release/facemark run --input demo $(if $(DISPLAY),--realtime)

test: rust packages onnxruntime ## every test, those of the training side included
	$(CARGO) test --locked --all-features

onnxruntime: ## ONNX Runtime's shared library for facemark-train, into .onnxruntime/
	@scripts/fetch-onnxruntime.sh

bench: rust ## times the released models, and the training step beside PyTorch's, which goes into .venv/
	@scripts/install-debian-packages.sh $(BUILD_PACKAGES) python3-venv
	$(CARGO) build --release --locked --bin facemark
	target/release/facemark bench --pipeline
	benches/training_step/run.sh

soak: rust ## the live path for MINUTES (60) with stalls, unplugs and failing outputs; fails when anything grows or slows
	@scripts/install-debian-packages.sh $(BUILD_PACKAGES) ffmpeg
	$(CARGO) bench --locked --bench soak -- --minutes 0.7 --prove
	$(SOAK_MALLOC) $(CARGO) bench --locked --bench soak -- --minutes $(MINUTES)

test-vm: vm ## the camera path against Linux's own drivers in a virtual machine: formats, unplugging, stalls, damage
	tests/vm/run.sh all

test-vm-slow: vm ## the same for half an hour of frames
	tests/vm/run.sh slow

vm: rust # what both need
	@scripts/install-debian-packages.sh $(VM_PACKAGES)
	@tests/vm/kernel.sh "$$(tests/vm/run.sh kernel)"

arm: ## facemark without camera and window for aarch64 and armv7 boards, into target-aarch64/ and target-armv7/
	@scripts/arm.sh build

test-arm: ## the ARM builds' tests under qemu; takes long
	@scripts/arm.sh test

packages: # what building and testing needs
	@scripts/install-debian-packages.sh $(TEST_PACKAGES)

rust:
	@command -v $(CARGO) >/dev/null || { echo "error: $(CARGO) is not there; install Rust: https://rustup.rs" >&2; exit 1; }
