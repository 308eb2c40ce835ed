package bench

import (
	"math"
	"math/bits"
	"time"
)

// latencies counts durations in buckets whose width grows with the value:
// exact below 2^subBits ns, then 2^subBits buckets for every doubling.
//
//	value (ns)   [0,128)  [128,256)  [256,512)  ... 2^maxBits
//	bucket width    1         1          2
//
// A bucket is less than 1/128 of its values wide, so a percentile is off by
// less than 0.8%. The zero value is ready; it has one owner at a time.
type latencies struct {
	counts           []int64 // nil until the first value
	n                int64
	slowest, fastest time.Duration // exact
	sum, squares     float64       // seconds, seconds^2
}

const (
	subBits = 7
	maxBits = 43 // 2^43 ns are 2.4 hours; longer ones count as that, but for slowest
	buckets = (maxBits - subBits + 1) << subBits
)

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return min((shift<<subBits)+int(v>>shift), buckets-1)
}

// bucketTop is the largest value of a bucket.
func bucketTop(i int) time.Duration {
	if i < 2<<subBits {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	return time.Duration((i-shift<<subBits+1)<<shift - 1)
}

func (l *latencies) add(d time.Duration) {
	if l.counts == nil {
		l.counts = make([]int64, buckets)
		l.fastest = d
	}
	l.counts[bucketOf(d)]++
	l.n++
	l.slowest, l.fastest = max(l.slowest, d), min(l.fastest, d)
	s := d.Seconds()
	l.sum += s
	l.squares += s * s
}

// merge adds all of o.
func (l *latencies) merge(o *latencies) {
	if o.n == 0 {
		return
	}
	if l.counts == nil {
		l.counts = make([]int64, buckets)
		l.fastest = o.fastest
	}
	for i, c := range o.counts {
		l.counts[i] += c
	}
	l.n += o.n
	l.slowest, l.fastest = max(l.slowest, o.slowest), min(l.fastest, o.fastest)
	l.sum += o.sum
	l.squares += o.squares
}

// percentile is the smallest value that p percent of all do not exceed.
func (l *latencies) percentile(p float64) time.Duration {
	rank := max(1, int64(math.Ceil(p/100*float64(l.n))))
	var seen int64
	for i, c := range l.counts {
		if seen += c; seen >= rank {
			return max(l.fastest, min(bucketTop(i), l.slowest))
		}
	}
	return l.slowest
}

func (l *latencies) average() float64 {
	if l.n == 0 {
		return 0
	}
	return l.sum / float64(l.n)
}

func (l *latencies) deviation() float64 {
	if l.n == 0 {
		return 0
	}
	a := l.average()
	return math.Sqrt(max(0, l.squares/float64(l.n)-a*a))
}

// bars spreads the values over 11 equally spaced marks from the fastest to the
// slowest; each counts what lies above the mark before it.
func (l *latencies) bars() (marks []time.Duration, counts []int64) {
	const steps = 10
	width := float64(l.slowest-l.fastest) / steps
	for i := range steps {
		marks = append(marks, l.fastest+time.Duration(float64(i)*width))
	}
	marks = append(marks, l.slowest)
	counts = make([]int64, len(marks))
	at := 0
	for i, c := range l.counts { // a bucket counts where its smallest value is
		if c == 0 {
			continue
		}
		for at < steps && bucketTop(i-1)+1 > marks[at] {
			at++
		}
		counts[at] += c
	}
	return marks, counts
}
