package wal

import (
	"path/filepath"
)

// cut ends the tail segment and begins the next one. Everything saved is synced
// when it is called.
//
// A crash between any two steps leaves a log that reads the same: until the
// rename is durable the old segment, whole, is the tail, and the new one gets
// its name only with its first records safely inside.
//
//  1. the old segment gets its real length
//  2. the prepared file gets the running CRC, the metadata, the last hard state
//  3. it is synced, renamed, and the directory synced
func (w *WAL) cut() error {
	old := w.tail()
	if err := old.file.Truncate(w.flushed); err != nil {
		return w.fail("truncate", err)
	}
	if err := w.datasync(); err != nil {
		return err
	}
	file, tmp, err := w.next.take()
	if err != nil {
		return w.fail("preallocate after", err)
	}
	seg := &segment{file: file, segmentRef: segmentRef{seq: old.seq + 1, index: w.last + 1}}
	seg.name = segmentName(seg.seq, seg.index)
	path := filepath.Join(w.dir, seg.name)
	w.segments = append(w.segments, seg)
	w.flushed = 0
	if err := w.appendHead(); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return w.fail("sync", err)
	}
	if err := w.fs.Rename(tmp, path); err != nil {
		return w.fail("rename", err)
	}
	if err := w.fs.SyncDir(w.dir); err != nil {
		return w.fail("sync directory of", err)
	}
	w.unsynced = false
	w.opt.Events.segmentCreated(path)
	return nil
}

// appendHead writes what every later segment begins with, so that it can be
// read alone.
func (w *WAL) appendHead() error {
	w.buf = appendFrame(w.buf, TypeCRC, w.crc, nil)
	if err := w.append(TypeMetadata, w.metadata); err != nil {
		return err
	}
	if !w.state.IsEmpty() {
		w.scratch = w.state.AppendTo(w.scratch[:0])
		if err := w.append(TypeHardState, w.scratch); err != nil {
			return err
		}
	}
	return w.flush()
}
