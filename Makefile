# make book    set up, execute every notebook, build the book into _build/html
# make test    set up, run every check
# make serve   the built book on localhost
# make rerun   retrain a page's runs: TASK=mnist PROFILE=quick
# make bench   speed, as ratios
# make clean   remove what the above made

PYTHON ?= python3
TASK ?= mnist
PROFILE ?= quick
PORT ?= 8000

BIN := .venv/bin
READY := .venv/ready
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: book test serve rerun bench clean
.DEFAULT_GOAL := book

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PYTHON = $(PYTHON): Python 3.11 or newer is needed; say make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $(READY)

book: $(READY)
	TQDM_DISABLE=1 $(BIN)/jupyter-book build . -W -n --keep-going

test: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m hvib verify --digests
	TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval -n auto --maxprocesses 4

serve:
	@test -f _build/html/index.html || { echo "no book yet: make book first"; exit 2; }
	$(PYTHON) -m http.server $(PORT) --bind localhost --directory _build/html

rerun: $(READY)
	$(BIN)/python -m hvib sweep --task $(TASK) --profile $(PROFILE) --fresh

bench: $(READY)
	$(BIN)/python -m hvib bench

clean:
	rm -rf .venv _build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
