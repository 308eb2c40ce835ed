package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// row is a scenario's medians of both servers.
type row struct {
	name       string
	ours, peer measured
	err        error // of either; the numbers mean nothing then
}

// median takes each number by itself.
func median(rounds []measured) measured {
	pick := func(get func(measured) float64) float64 {
		var v []float64
		for _, m := range rounds {
			v = append(v, get(m))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return measured{
		perSecond: pick(func(m measured) float64 { return m.perSecond }),
		p50:       pick(func(m measured) float64 { return m.p50 }),
		p99:       pick(func(m measured) float64 { return m.p99 }),
		p999:      pick(func(m measured) float64 { return m.p999 }),
		cpuPerOp:  pick(func(m measured) float64 { return m.cpuPerOp }),
		seconds:   pick(func(m measured) float64 { return m.seconds }),
		peakRSS:   int64(pick(func(m measured) float64 { return float64(m.peakRSS) })),
	}
}

// column is one number of a row: how to get and how to print it.
type column struct {
	head   string
	get    func(measured) float64
	format string
}

var columns = []column{
	{"requests/s", func(m measured) float64 { return m.perSecond }, "%.0f"},
	{"p50 ms", func(m measured) float64 { return m.p50 * 1e3 }, "%.2f"},
	{"p99 ms", func(m measured) float64 { return m.p99 * 1e3 }, "%.2f"},
	{"p99.9 ms", func(m measured) float64 { return m.p999 * 1e3 }, "%.2f"},
	{"CPU us/op", func(m measured) float64 { return m.cpuPerOp * 1e6 }, "%.1f"},
	{"seconds", func(m measured) float64 { return m.seconds }, "%.2f"},
	{"peak MiB", func(m measured) float64 { return float64(m.peakRSS) / (1 << 20) }, "%.0f"},
}

// writeTable prints Markdown: each cell is ours / the peer's (ratio).
func writeTable(w io.Writer, rows []row) {
	fmt.Fprint(w, "| scenario |")
	for _, c := range columns {
		fmt.Fprintf(w, " %s |", c.head)
	}
	fmt.Fprint(w, "\n|---|")
	for range columns {
		fmt.Fprint(w, "---|")
	}
	fmt.Fprintln(w)
	for _, r := range rows {
		fmt.Fprintf(w, "| %s |", r.name)
		if r.err != nil {
			fmt.Fprintf(w, " failed: %s |\n", strings.Join(strings.Fields(r.err.Error()), " "))
			continue
		}
		for _, c := range columns {
			fmt.Fprintf(w, " %s |", c.cell(r.ours, r.peer))
		}
		fmt.Fprintln(w)
	}
}

func (c column) cell(ours, peer measured) string {
	a, b := c.get(ours), c.get(peer)
	if a == 0 && b == 0 {
		return ""
	}
	ratio := ""
	if b != 0 {
		ratio = fmt.Sprintf(" (%.2fx)", a/b)
	}
	return fmt.Sprintf(c.format+" / "+c.format+"%s", a, b, ratio)
}
