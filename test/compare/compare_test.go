package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// Goal: the server's own time is read, whatever its command is called.
func TestParseCPU(t *testing.T) {
	stat := "4242 (a b) S (c) S 1 4242 4242 0 -1 4194560 901 0 2 0 150 50 7 8 20 0 9 0 12345 1 2 3\n"
	if d, err := parseCPU([]byte(stat)); err != nil || d != 2*time.Second {
		t.Errorf("%v, %v; want 2s", d, err)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2 3", "1 (x) S 1 1 1 0 -1 1 1 0 2 0 a 50 7 8"} {
		if d, err := parseCPU([]byte(bad)); err == nil {
			t.Errorf("%q is %v", bad, d)
		}
	}
}

func TestParsePeak(t *testing.T) {
	if n, err := parsePeak([]byte("Name:\tx\nVmPeak:\t  99 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n")); err != nil || n != 2<<20 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := parsePeak([]byte("Name:\tx\n")); err == nil {
		t.Error("no VmHWM should be an error")
	}
}

// Goal: each number is the median of its own; a failed scenario shows no
// numbers; a number nobody measured shows nothing.
func TestTable(t *testing.T) {
	ours := median([]measured{{perSecond: 30, p99: 0.003}, {perSecond: 10, p99: 0.001}, {perSecond: 20, p99: 0.002}})
	peer := median([]measured{{perSecond: 10, p99: 0.004}})
	var out strings.Builder
	writeTable(&out, []row{{name: "put", ours: ours, peer: peer}, {name: "get", ours: ours, err: errors.New("lost")}})
	for _, want := range []string{"| put | 20 / 10 (2.00x) |  | 2.00 / 4.00 (0.50x) |  |  |  |  |\n", "| get | failed: lost |\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
}
