# make test         everything this machine can run, and a summary of it
# make lint         gofmt, vet and staticcheck over every module
# make cross        check and link for the systems that warren supports
# make interop      the conversations with the real peers (node, npm)
# make natlab       the NAT laboratory, twenty runs a pair (root, nftables); writes docs/nat.md
# make attacks      attack programs at full scale (root), a table: attack, figure, bound
# make fuzz         a short round of every fuzz target (WARREN_FUZZTIME=10s each)
# make vuln         known vulnerabilities, where the database can be reached
# make bench        the benchmarks of every package
# make bench-peers  warren beside its peers in one run; writes docs/performance.md
#
# With WARREN_TEST_ALL=1 a skip is a failure.

GO ?= go
RUN := $(GO) run ./internal/testsum

.PHONY: build test lint unit cross interop natlab attacks fuzz vuln bench bench-peers

build:
	$(GO) build -o bin/ ./cmd/warren

test:
	@$(RUN)

lint unit cross interop fuzz:
	@$(RUN) $@

# Of an hour; NATLAB_ARGS="-run Relayed" for a part. What was measured is kept
# in natlab/outcomes.jsonl, so that parts add up; remove it to begin anew.
natlab:
	$(GO) test -count=1 -timeout=0 -v $(NATLAB_ARGS) ./natlab -args -runs 20 -keep outcomes.jsonl -write ../docs/nat.md

# Of ten minutes or so; ATTACKS_ARGS="-run Eclipse" for a part. make test runs
# them at a smaller scale.
attacks:
	$(GO) test -count=1 -timeout=0 -v $(ATTACKS_ARGS) ./lab/attacks -args -full

vuln:
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Of an hour or so; BENCH_ARGS="--w W1 --reps 1" for less.
BENCH_ARGS ?= --w W1,W2,W3,W4,W5,W6,W7,W8,W10,W11 --reps 3

bench-peers: interop/node_modules
	cd bench && $(GO) build -o bin/ ./cmd/... && rm -f results.jsonl && \
	{ node run.mjs --sides js,warren --out results.jsonl $(BENCH_ARGS); status=$$?; \
	  node report.mjs results.jsonl ../docs/performance.md && exit $$status; }

interop/node_modules: interop/package-lock.json
	cd interop && npm ci --ignore-scripts
	@touch $@
