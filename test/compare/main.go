package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"syscall"
)

type options struct {
	ours, peer, benchmark string
	only                  *regexp.Regexp
	rounds                int
	scale                 float64
	write                 string
}

func main() {
	var o options
	var only string
	flag.StringVar(&o.ours, "ours", "bin/etcd", "the server of this project")
	flag.StringVar(&o.peer, "peer", "/usr/bin/etcd", "the server to compare with")
	flag.StringVar(&o.benchmark, "benchmark", "bin/benchmark", "the load generator")
	flag.StringVar(&only, "only", "", "run the scenarios whose names match this expression")
	flag.IntVar(&o.rounds, "rounds", 3, "runs of each scenario; the median counts")
	flag.Float64Var(&o.scale, "scale", 1, "factor on the number of requests and keys")
	flag.StringVar(&o.write, "write", "", "also write the table into this file, such as docs/benchmarks.md")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(only); err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = compare(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func compare(ctx context.Context, o options) error {
	if o.rounds < 1 || o.scale <= 0 {
		return errors.New("-rounds and -scale must be positive")
	}
	var rows []row
	for _, s := range scenarios() {
		if !o.only.MatchString(s.name) {
			continue
		}
		r := o.compareOne(ctx, s)
		if ctx.Err() != nil {
			break // what is there is worth printing
		}
		rows = append(rows, r)
		writeTable(os.Stderr, rows[len(rows)-1:])
	}
	var doc bytes.Buffer
	o.writeDocument(&doc, rows)
	if _, err := os.Stdout.Write(doc.Bytes()); err != nil || o.write == "" {
		return err
	}
	return os.WriteFile(o.write, doc.Bytes(), 0o644)
}

// compareOne lets the two take turns, the first one alternating.
func (o options) compareOne(ctx context.Context, s scenario) row {
	binaries := [2]string{o.ours, o.peer}
	var found [2][]measured
	for round := range o.rounds {
		for turn := range binaries {
			who := (round + turn) % 2
			m, err := o.runOnce(ctx, s, binaries[who])
			if err != nil {
				return row{name: s.name, err: fmt.Errorf("%s: %w", binaries[who], err)}
			}
			found[who] = append(found[who], m)
		}
	}
	return row{name: s.name, ours: median(found[0]), peer: median(found[1])}
}

// runOnce is one scenario on a fresh server.
func (o options) runOnce(ctx context.Context, s scenario, binary string) (m measured, err error) {
	dir, err := os.MkdirTemp("", "compare-*")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	srv, err := newServer(binary, dir)
	if err != nil {
		return m, err
	}
	if _, err := srv.start(ctx); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, srv.stop()) }()
	b := &bed{ctx: ctx, benchmark: o.benchmark, server: srv, scale: o.scale}
	if s.fill != nil {
		if err := s.fill(b); err != nil {
			return m, fmt.Errorf("filling: %w", err)
		}
	}
	if m, err = s.run(b); err != nil {
		return m, err
	}
	m.peakRSS, err = srv.peakRSS()
	return m, err
}

func (o options) writeDocument(w *bytes.Buffer, rows []row) {
	fmt.Fprintf(w, "# Benchmarks\n\n")
	fmt.Fprintf(w, "Written by `make compare`; the method is in test/compare/doc.go. Cells are Stele / peer (ratio).\n\n")
	fmt.Fprintf(w, "- Stele: %s\n- peer: %s\n- machine: %d CPUs, %s/%s, load generator beside the server\n- median of %d rounds, scale %g\n\n",
		versionOf(o.ours), versionOf(o.peer), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, o.rounds, o.scale)
	writeTable(w, rows)
}

// versionOf is the first line of --version.
func versionOf(binary string) string {
	out, err := exec.Command(binary, "--version").Output()
	if err != nil {
		return fmt.Sprintf("%s (no version: %v)", binary, err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(first)
}
