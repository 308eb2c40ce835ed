package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// naive keeps every value.
type naive []time.Duration

func (n naive) percentile(p float64) time.Duration {
	slices.Sort(n)
	return n[max(1, int(math.Ceil(p/100*float64(len(n)))))-1]
}

// Goal: percentiles, extremes, mean and deviation are those of the values
// themselves, within the promised 0.8%.
// Method: sets of many shapes, also split over histograms that are merged.
func TestPercentilesAgainstEveryValueKept(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 60 {
		var all naive
		parts := make([]latencies, 1+round%4)
		sum := 0.0
		for range 1 + r.IntN(2000) {
			d := time.Duration(math.Exp(r.Float64() * float64(4+round%25)))
			all = append(all, d)
			sum += d.Seconds()
			parts[r.IntN(len(parts))].add(d)
		}
		var l latencies
		for i := range parts {
			l.merge(&parts[i])
		}
		for _, p := range []float64{0, 0.1, 10, 50, 90, 99, 99.9, 100} {
			want, got := all.percentile(p), l.percentile(p)
			if got < want || float64(got-want) > float64(want)/128 {
				t.Fatalf("round %d: p%v of %d values is %v, want %v", round, p, len(all), got, want)
			}
		}
		if l.slowest != slices.Max(all) || l.fastest != slices.Min(all) || l.n != int64(len(all)) {
			t.Fatalf("round %d: extremes %v %v", round, l.fastest, l.slowest)
		}
		if want := sum / float64(len(all)); math.Abs(l.average()-want) > want*1e-9 {
			t.Fatalf("round %d: average %v, want %v", round, l.average(), want)
		}
		var bars int64
		marks, counts := l.bars()
		for _, c := range counts {
			bars += c
		}
		if bars != l.n || marks[0] != l.fastest || marks[len(marks)-1] != l.slowest {
			t.Fatalf("round %d: bars %v %v hold %d of %d", round, marks, counts, bars, l.n)
		}
	}
}

// Goal: buckets neither overlap nor leave gaps.
func TestBucketsAreAPartition(t *testing.T) {
	for i := range buckets - 1 {
		top := bucketTop(i)
		if bucketOf(top) != i || bucketOf(top+1) != i+1 {
			t.Fatalf("bucket %d ends at %d, which is in bucket %d, and %d in %d", i, top, bucketOf(top), top+1, bucketOf(top+1))
		}
	}
	if b := bucketOf(math.MaxInt64); b != buckets-1 {
		t.Errorf("the longest duration is in bucket %d", b)
	}
}
