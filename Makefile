# The whole truth in a few commands: what CI runs is what a person runs.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
CORES ?= $(shell nproc)
DEMO := demo
READY := .venv/.ready
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests run side by side: threads of several OpenBLAS that wait for each other on a busy machine spin for minutes.
test test-slow: export OPENBLAS_NUM_THREADS := 1

.PHONY: demo test test-slow env system lock clean help

help:
	@echo "make demo       an environment, synthetic clips, the whole workflow on them, the scoreboard"
	@echo "make test       an environment and the tests (minutes)"
	@echo "make test-slow  the slow tests"
	@echo "make env        only the environment, in .venv"
	@echo "make clean      remove the demo's data and results"

demo: $(READY)
	@test -e $(DEMO)/data/clips.tsv || smad-features demo-data $(DEMO)/data --workers $(CORES)
	snakemake --cores $(CORES) --quiet rules --directory $(DEMO) --configfile config/demo/config.yaml -- all
	@smad-models score --show $(foreach task,emotion valence arousal intensity,$(DEMO)/results/scores/$(task).json)
	@echo "The report: $(CURDIR)/$(DEMO)/results/report.html"

test: $(READY)
	pytest -m "not slow" -n $(CORES) --dist loadfile

test-slow: $(READY)
	pytest -m slow -n $(CORES) --dist loadfile

env: $(READY)

# The detectors' model files come last, so that demo and tests need no network any more.
# torch first, with its own dependencies at the versions of the lock; the rest is complete, so nothing is resolved anew.
$(READY): requirements.lock pyproject.toml
	@$(MAKE) --no-print-directory system
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --no-compile --constraint requirements.lock torch==2.13.0
	.venv/bin/pip install --quiet --no-compile --no-deps --requirement requirements.lock
	.venv/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	.venv/bin/python -c 'from smad_features.model_files import find_model; find_model("detector"); find_model("full_range")'
	@touch $@

# What the wheels link to but do not bring. Looked for before anything is downloaded.
system:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; name one: make PYTHON=/path/to/python3 ..."; exit 1; }
	@missing=""; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    missing="$$missing python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"; \
	found="$$(/sbin/ldconfig -p 2>/dev/null)"; \
	case "$$found" in *libEGL.so.1*) ;; *) missing="$$missing libegl1" ;; esac; \
	case "$$found" in *libGLESv2.so.2*) ;; *) missing="$$missing libgles2" ;; esac; \
	test -z "$$missing" && exit 0; \
	install="apt-get install -y --no-install-recommends$$missing"; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then as=""; \
	elif sudo -n true 2>/dev/null && command -v apt-get >/dev/null; then as="sudo -n"; \
	else echo "Missing system libraries. Run this once, then make again:"; echo "    sudo apt-get update && sudo $$install"; exit 1; fi; \
	echo "installing$$missing"; \
	$$as apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$as $$install -qq >/dev/null

# Pin everything anew (needs uv). mediapipe asks for the OpenCV that wants a screen; the headless one is the same otherwise.
lock:
	echo "opencv-contrib-python ; sys_platform == 'never'" > .overrides.txt
	echo "opencv-contrib-python-headless" | uv pip compile --quiet --no-annotate --no-header --all-extras \
	    --python-version 3.11 --override .overrides.txt pyproject.toml - | sed 's/+cpu//' | sort -f > requirements.lock
	rm .overrides.txt

clean:
	rm -rf $(DEMO)
