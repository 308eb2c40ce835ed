package wal

import "time"

// Events are the log's reports to whoever keeps metrics and log lines. Every
// field may be nil. They are called while the log is locked and must not call
// it back.
type Events struct {
	Wrote          func(bytes int, took time.Duration) // one write to the file
	Synced         func(took time.Duration)            // one sync of the file
	SegmentCreated func(path string)                   // a segment got its name
	Repaired       func(Repair)                        // a torn tail was cut off
	Ignored        func(path string)                   // a file that does not belong here
}

// Repair tells which torn tail was cut off.
type Repair struct {
	Path   string // the segment
	Broken string // the copy of it as it was found
	Offset int64  // the segment's end of good records
	Cause  error
}

func (e *Events) wrote(bytes int, took time.Duration) {
	if e.Wrote != nil {
		e.Wrote(bytes, took)
	}
}

func (e *Events) synced(took time.Duration) {
	if e.Synced != nil {
		e.Synced(took)
	}
}

func (e *Events) segmentCreated(path string) {
	if e.SegmentCreated != nil {
		e.SegmentCreated(path)
	}
}

func (e *Events) repaired(r Repair) {
	if e.Repaired != nil {
		e.Repaired(r)
	}
}

func (e *Events) ignored(path string) {
	if e.Ignored != nil {
		e.Ignored(path)
	}
}
