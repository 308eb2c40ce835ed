# Run `make` for the verbs. CI (.ci/run) uses the same ones.
GO ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 10s

.PHONY: help build test race lint fmt fuzz bench crash oracle golden fixtures compare clean

help: ## what can be done here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

build: ## binaries into bin/: etcd, etcdctl, etcdutl, benchmark
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

test: ## the everyday suite (under two minutes on two cores)
	$(GO) test ./...

race: ## the concurrent packages under the race detector (about 5 minutes)
	$(GO) test -race ./internal/core/mvcc/... ./internal/core/watch/... ./internal/core/raft/... ./internal/disk/... ./internal/member/... ./internal/front/... ./embed/...

lint: ## gofmt, go vet, staticcheck, layers
	@test -z "$$(gofmt -l .)" || { echo "gofmt these:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) test ./internal/lint/

fuzz: ## every fuzz target for FUZZTIME each (default 10s)
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; done; done

bench: ## micro-benchmarks, benchstat-ready
	$(GO) test -run '^$$' -bench . -benchmem ./internal/...

crash: build ## kill -9 a real server in a loop under load and check every acknowledged write (about 2 minutes)
	$(GO) test -count=1 -timeout 10m ./test/crash -kills 30

oracle: build ## replay ../shared/oracle against bin/etcd (about 2 minutes; needs ../shared)
	bash test/oracle.sh

golden: build ## replay ../shared/reference/cli against bin/ (about 3 minutes; needs ../shared)
	bash test/golden.sh

PEER ?= /usr/bin/etcd
compare: build ## bin/etcd and PEER under the same loads, in turns (about 20 minutes; more: go run ./test/compare -h)
	$(GO) run ./test/compare -peer $(PEER) $(COMPARE)

clean: ## remove what the other verbs made
	rm -rf bin
