package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/steledb/stele/internal/cli/bench"
)

// measured is what one run of a scenario found. Zero means not measured.
type measured struct {
	perSecond      float64
	p50, p99, p999 float64 // seconds
	cpuPerOp       float64 // seconds
	seconds        float64 // for scenarios that are one long thing
	peakRSS        int64   // bytes
}

// scenario runs against a server that is up; fill prepares it and is not
// measured.
type scenario struct {
	name string
	fill func(*bed) error
	run  func(*bed) (measured, error)
}

// bed is a server with the load generator beside it.
type bed struct {
	ctx       context.Context
	benchmark string
	server    *server
	scale     float64 // of all totals
}

func (b *bed) n(full int) string { return fmt.Sprint(max(1, int(float64(full)*b.scale))) }

// load runs benchmark and returns its results. Any failed request is an error.
func (b *bed) load(args ...string) ([]bench.Result, error) {
	cmd := exec.CommandContext(b.ctx, b.benchmark, append([]string{"--endpoints", b.server.endpoint, "--json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("benchmark %q: %w: %s", args, err, &stderr)
	}
	var results []bench.Result
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var r bench.Result
		if err := dec.Decode(&r); err != nil {
			return nil, fmt.Errorf("benchmark %q: %w", args, err)
		}
		for text, n := range r.Errors {
			return nil, fmt.Errorf("benchmark %q: %d times %s", args, n, text)
		}
		results = append(results, r)
	}
	if len(results) == 0 {
		return nil, errors.New("benchmark printed no result")
	}
	return results, nil
}

// measure runs a load and counts the server's CPU. Of several results the
// last one tells, unless all are requests of one mix.
func (b *bed) measure(mix bool, args ...string) (measured, error) {
	before, err := b.server.cpu()
	if err != nil {
		return measured{}, err
	}
	results, err := b.load(args...)
	if err != nil {
		return measured{}, err
	}
	after, err := b.server.cpu()
	if err != nil {
		return measured{}, err
	}
	if !mix {
		results = results[len(results)-1:]
	}
	var m measured
	var requests int64
	for _, r := range results { // the slower part of a mix gives its latency
		requests += r.Requests
		m.perSecond += r.PerSecond
		m.p50 = max(m.p50, r.Percentiles["50"])
		m.p99 = max(m.p99, r.Percentiles["99"])
		m.p999 = max(m.p999, r.Percentiles["99.9"])
	}
	m.cpuPerOp = (after - before).Seconds() / float64(requests)
	return m, nil
}

// many is the load of the targets: 1000 requests in flight on 8 connections.
func many(args ...string) []string {
	return append([]string{"--clients", "1000", "--conns", "8"}, args...)
}

func run(args func(*bed) []string) func(*bed) (measured, error) {
	return func(b *bed) (measured, error) { return b.measure(false, args(b)...) }
}

func runMix(args func(*bed) []string) func(*bed) (measured, error) {
	return func(b *bed) (measured, error) { return b.measure(true, args(b)...) }
}

// fillKeys puts keys 0..n-1 in order, 32-byte keys.
func (b *bed) fillKeys(n, valSize string) error {
	_, err := b.load(many("put", "--total", n, "--key-space-size", n, "--sequential-keys", "--key-size", "32", "--val-size", valSize)...)
	return err
}

// fillOne puts the key "foo" that the gets ask for, among others.
func fillOne(b *bed) error {
	if err := b.server.put(b.ctx, "foo", make([]byte, 256)); err != nil {
		return err
	}
	return b.fillKeys(b.n(10000), "256")
}

// restartKeys is the size of the restart scenario.
const restartKeys = 1_000_000

func scenarios() []scenario {
	return []scenario{
		{"put, 1000 in flight", nil, run(func(b *bed) []string {
			return many("put", "--total", b.n(200000), "--val-size", "256", "--key-space-size", "100000", "--key-size", "32")
		})},
		{"put, one client", nil, run(func(b *bed) []string {
			return []string{"put", "--total", b.n(5000), "--val-size", "256", "--key-space-size", "10000", "--key-size", "32"}
		})},
		{"put, 2000/s arriving (open loop)", nil, run(func(b *bed) []string {
			return many("--open-loop", "put", "--rate", "2000", "--total", b.n(20000), "--val-size", "256", "--key-space-size", "10000", "--key-size", "32")
		})},
		{"get serializable, 1000 in flight", fillOne, run(func(b *bed) []string {
			return many("range", "foo", "--consistency", "s", "--total", b.n(300000))
		})},
		{"get linearizable, 1000 in flight", fillOne, run(func(b *bed) []string {
			return many("range", "foo", "--consistency", "l", "--total", b.n(300000))
		})},
		{"txn of 4 puts, 100 in flight", nil, run(func(b *bed) []string {
			return []string{"--clients", "100", "--conns", "4", "txn-put", "--txn-ops", "4", "--total", b.n(30000), "--val-size", "256", "--key-space-size", "10000", "--key-size", "32"}
		})},
		{"txns, 90% reads, 1000 in flight", fillOne, runMix(func(b *bed) []string {
			return many("txn-mixed", "foo", "--rw-ratio", "9", "--total", b.n(200000), "--val-size", "256", "--key-space-size", "10000", "--key-size", "32")
		})},
		{"events to 10,000 watchers of one key", nil, run(func(b *bed) []string {
			return []string{"--clients", "8", "--conns", "8", "watch", "--streams", "100", "--watch-per-stream", "100", "--put-total", b.n(100)}
		})},
		{"lease grants, 1000 in flight", nil, run(func(b *bed) []string {
			return many("lease-grant", "--total", b.n(50000))
		})},
		{"lease renewals, 1000 in flight", nil, run(func(b *bed) []string {
			return many("lease-keepalive", "--total", b.n(100000))
		})},
		{"put, 500/s arriving, idle otherwise", fillList, listing(false)},
		{"put, 500/s arriving, during lists of 50k keys", fillList, listing(true)},
		{"restart with 1M keys", func(b *bed) error { return b.fillKeys(b.n(restartKeys), "128") }, restart},
	}
}

func fillList(b *bed) error { return b.fillKeys("50000", "128") }

// listing measures puts that arrive steadily, with or without someone who
// lists the keys again and again: those whose first byte is neither 0 nor 255,
// nearly all of them.
func listing(list bool) func(*bed) (measured, error) {
	return func(b *bed) (measured, error) {
		ctx, cancel := context.WithCancel(b.ctx)
		listed := make(chan error, 1)
		if list {
			other := *b
			other.ctx = ctx
			go func() {
				_, err := other.load("range", "\x01", "\xff", "--total", "1000000")
				listed <- err
			}()
		} else {
			listed <- nil
		}
		m, err := b.measure(false, "--open-loop", "--clients", "1000", "put", "--rate", "500", "--total", b.n(5000), "--val-size", "256", "--key-space-size", "10000", "--key-size", "32")
		cancel()
		if lerr := <-listed; lerr != nil && !errors.Is(lerr, context.Canceled) && err == nil && b.ctx.Err() == nil {
			err = lerr
		}
		if list {
			m.cpuPerOp = 0 // includes the lists
		}
		return m, err
	}
}

// restart stops the server and times how long it takes to answer again.
func restart(b *bed) (measured, error) {
	if err := b.server.stop(); err != nil {
		return measured{}, err
	}
	took, err := b.server.start(b.ctx)
	return measured{seconds: took.Seconds()}, err
}
