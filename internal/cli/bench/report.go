package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// percentiles are those a report shows.
var percentiles = []float64{10, 25, 50, 75, 90, 95, 99, 99.9}

// tally collects the outcomes of one kind of request. It has one owner at a
// time: the reader of one connection, or a worker.
type tally struct {
	lat     latencies
	errors  map[string]int64
	seconds map[int64]*second // nil: no samples wanted
}

// second is what --sample tells about one second of the run.
type second struct {
	n           int64
	least, most time.Duration
	sum         time.Duration
}

// ok counts a request that ended at end.
func (t *tally) ok(end time.Time, took time.Duration) {
	t.lat.add(took)
	if t.seconds == nil {
		return
	}
	s := t.seconds[end.Unix()]
	if s == nil {
		s = &second{least: took}
		t.seconds[end.Unix()] = s
	}
	s.n++
	s.sum += took
	s.least, s.most = min(s.least, took), max(s.most, took)
}

// failed counts a request that failed. Errors are told apart by their text, of
// which a run has few; past a hundred they are lumped together.
func (t *tally) failed(err error) {
	if t.errors == nil {
		t.errors = map[string]int64{}
	}
	text := err.Error()
	if _, known := t.errors[text]; !known && len(t.errors) >= 100 {
		text = "other errors"
	}
	t.errors[text]++
}

// done counts an outcome of either kind.
func (t *tally) done(start time.Time, err error) {
	if err != nil {
		t.failed(err)
		return
	}
	end := time.Now()
	t.ok(end, end.Sub(start))
}

// report is what a run has to say about one kind of request.
type report struct {
	title   string // printed before it, with a colon; may be empty
	name    string // for programs
	elapsed time.Duration
	tally
}

// newReport adds up what the owners of tallies collected.
func newReport(name, title string, elapsed time.Duration, parts ...*tally) *report {
	r := &report{name: name, title: title, elapsed: elapsed}
	for _, p := range parts {
		r.lat.merge(&p.lat)
		for text, n := range p.errors {
			if r.errors == nil {
				r.errors = map[string]int64{}
			}
			r.errors[text] += n
		}
		for at, s := range p.seconds {
			r.addSecond(at, *s)
		}
	}
	return r
}

func (r *report) addSecond(at int64, s second) {
	if r.seconds == nil {
		r.seconds = map[int64]*second{}
	}
	have := r.seconds[at]
	if have == nil {
		r.seconds[at] = &s
		return
	}
	have.n += s.n
	have.sum += s.sum
	have.least, have.most = min(have.least, s.least), max(have.most, s.most)
}

func (r *report) perSecond() float64 {
	if r.elapsed <= 0 {
		return 0
	}
	return float64(r.lat.n) / r.elapsed.Seconds()
}

// text writes the report as etcd's benchmark does; precision is the verb for
// seconds, "%4.4f" or "%g".
func (r *report) text(w io.Writer, precision string) {
	if r.title != "" {
		fmt.Fprintf(w, "%s:\n", r.title)
	}
	sec := func(s float64) string { return fmt.Sprintf(precision+" secs", s) }
	if r.lat.n > 0 {
		fmt.Fprintf(w, "\nSummary:\n")
		fmt.Fprintf(w, "  Total:\t%s.\n", sec(r.elapsed.Seconds()))
		fmt.Fprintf(w, "  Slowest:\t%s.\n", sec(r.lat.slowest.Seconds()))
		fmt.Fprintf(w, "  Fastest:\t%s.\n", sec(r.lat.fastest.Seconds()))
		fmt.Fprintf(w, "  Average:\t%s.\n", sec(r.lat.average()))
		fmt.Fprintf(w, "  Stddev:\t%s.\n", sec(r.lat.deviation()))
		fmt.Fprintf(w, "  Requests/sec:\t"+precision+"\n", r.perSecond())
		r.textBars(w, precision)
		fmt.Fprintf(w, "\nLatency distribution:\n")
		for _, p := range percentiles {
			fmt.Fprintf(w, "  %v%% in %s.\n", p, sec(r.lat.percentile(p).Seconds()))
		}
	}
	r.textErrors(w)
	r.textSamples(w)
}

func (r *report) textBars(w io.Writer, precision string) {
	const widest = 40
	marks, counts := r.lat.bars()
	most := slices.Max(counts)
	fmt.Fprintf(w, "\nResponse time histogram:\n")
	for i, m := range marks {
		bar := strings.Repeat("∎", int(counts[i]*widest/most))
		fmt.Fprintf(w, "  "+precision+" [%d]\t|%s\n", m.Seconds(), counts[i], bar)
	}
}

func (r *report) textErrors(w io.Writer) {
	if len(r.errors) == 0 {
		return
	}
	fmt.Fprintf(w, "\nError distribution:\n")
	for _, text := range slices.Sorted(maps.Keys(r.errors)) {
		fmt.Fprintf(w, "  [%d]\t%s\n", r.errors[text], text)
	}
}

func (r *report) textSamples(w io.Writer) {
	if len(r.seconds) == 0 {
		return
	}
	fmt.Fprintf(w, "\nSample in one second (unix latency throughput):\n")
	fmt.Fprintf(w, "UNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT\n")
	for _, at := range slices.Sorted(maps.Keys(r.seconds)) {
		s := r.seconds[at]
		fmt.Fprintf(w, "%d,%v,%v,%v,%d\n", at, ms(s.least), ms(s.sum/time.Duration(s.n)), ms(s.most), s.n)
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Result is a report for programs: what --json prints, one object a line.
// Durations are seconds.
type Result struct {
	Name        string             `json:"name"`
	Requests    int64              `json:"requests"`
	Errors      map[string]int64   `json:"errors,omitempty"`
	Seconds     float64            `json:"seconds"`
	PerSecond   float64            `json:"requests_per_second"`
	Fastest     float64            `json:"fastest"`
	Slowest     float64            `json:"slowest"`
	Average     float64            `json:"average"`
	Deviation   float64            `json:"stddev"`
	Percentiles map[string]float64 `json:"percentiles"` // "99.9": seconds
}

func (r *report) result() Result {
	res := Result{
		Name: r.name, Requests: r.lat.n, Errors: r.errors,
		Seconds: r.elapsed.Seconds(), PerSecond: r.perSecond(),
		Fastest: r.lat.fastest.Seconds(), Slowest: r.lat.slowest.Seconds(),
		Average: r.lat.average(), Deviation: r.lat.deviation(),
		Percentiles: map[string]float64{},
	}
	for _, p := range percentiles {
		res.Percentiles[fmt.Sprint(p)] = r.lat.percentile(p).Seconds()
	}
	return res
}

// perfdash is the form Kubernetes' performance dashboard reads.
type perfdash struct {
	Version   string            `json:"version"`
	DataItems []perfdashItem    `json:"dataItems"`
	Labels    map[string]string `json:"labels,omitempty"`
}

type perfdashItem struct {
	Data   map[string]float64 `json:"data"`
	Unit   string             `json:"unit"`
	Labels map[string]string  `json:"labels,omitempty"`
}

// writePerfdash puts the reports into a file of dir, whose name says what and
// when.
func writePerfdash(dir, command string, now time.Time, reports []*report) error {
	doc := perfdash{Version: "v1"}
	for _, r := range reports {
		data := map[string]float64{}
		for _, p := range []float64{50, 90, 99} {
			data[fmt.Sprintf("Perc%v", p)] = ms(r.lat.percentile(p))
		}
		doc.DataItems = append(doc.DataItems, perfdashItem{Data: data, Unit: "ms", Labels: map[string]string{"Operation": strings.ToUpper(r.name)}})
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	name := fmt.Sprintf("EtcdAPI_benchmark_%s_%s.json", command, now.UTC().Format("20060102T150405Z"))
	return os.WriteFile(filepath.Join(dir, name), append(b, '\n'), 0o644)
}
