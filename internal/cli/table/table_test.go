package table

import (
	"strings"
	"testing"
)

// Goal: the box is the one etcdctl draws. Method: two recorded tables, one
// with odd spare columns and one without rows.
func TestBoxesAsRecorded(t *testing.T) {
	var got strings.Builder
	rows := [][]string{{"127.0.0.1:2379", "false", "2.5ms", "Active Alarm(s): NOSPACE "}}
	if err := Write(&got, []string{"ENDPOINT", "HEALTH", "TOOK", "ERROR"}, rows); err != nil {
		t.Fatal(err)
	}
	want := `┌────────────────┬────────┬───────┬──────────────────────────┐
│    ENDPOINT    │ HEALTH │ TOOK  │          ERROR           │
├────────────────┼────────┼───────┼──────────────────────────┤
│ 127.0.0.1:2379 │  false │ 2.5ms │ Active Alarm(s): NOSPACE │
└────────────────┴────────┴───────┴──────────────────────────┘
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", &got, want)
	}

	got.Reset()
	if err := Write(&got, []string{"ENDPOINT", "HASH"}, nil); err != nil {
		t.Fatal(err)
	}
	want = `┌──────────┬──────┐
│ ENDPOINT │ HASH │
└──────────┴──────┘
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", &got, want)
	}
}
