package wal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"

	"github.com/steledb/stele/internal/base/files"
)

// Record is one record as it lies on disk.
type Record struct {
	Type   RecordType
	CRC    uint32
	Data   []byte // valid until the next record is read
	File   string // base name of the segment
	Offset int64  // of the frame
	Size   int64  // of the frame, padding included
}

// Records walks all records of the log in dir, from the segment that holds
// index on, checking the CRC chain. It takes no locks and changes nothing. The
// last pair carries the error that ended the walk early: ErrTorn (inside a
// *Damage) for a tail that a crash tore, another *Damage for anything else.
func Records(fsys files.FS, dir string, index uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		l, err := list(fsys, dir)
		if err != nil {
			yield(Record{}, err)
			return
		}
		segments, err := l.from(index)
		if err != nil {
			yield(Record{}, err)
			return
		}
		walk(newReader(fsys, dir, segments), yield)
	}
}

// AllRecords is Records from the first segment that is left.
func AllRecords(fsys files.FS, dir string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		r, err := readerOfAll(fsys, dir)
		if err != nil {
			yield(Record{}, err)
			return
		}
		walk(r, yield)
	}
}

func readerOfAll(fsys files.FS, dir string) (*reader, error) {
	l, err := list(fsys, dir)
	if err != nil {
		return nil, err
	}
	if len(l.segments) == 0 {
		return nil, fmt.Errorf("%w in %s", ErrFileNotFound, dir)
	}
	return newReader(fsys, dir, l.segments), checkContiguous(l.segments)
}

func walk(r *reader, yield func(Record, error) bool) {
	defer r.close()
	for {
		rec, err := r.next()
		if err == io.EOF || !yield(rec, err) || err != nil {
			return
		}
	}
}

// reader reads the records of a run of segments.
type reader struct {
	fs       files.FS
	dir      string
	segments []segmentRef // those not yet finished; [0] is being read

	seg     *segmentReader // of segments[0]; nil before it is opened
	crc     uint32         // running CRC
	started bool           // a record was read, so crc means something
}

func newReader(fsys files.FS, dir string, segments []segmentRef) *reader {
	return &reader{fs: fsys, dir: dir, segments: segments}
}

func (r *reader) close() {
	if r.seg != nil {
		r.seg.file.Close() // read only: nothing can be lost
		r.seg = nil
	}
}

func (r *reader) isLast() bool { return len(r.segments) == 1 }

// end is the offset behind the last good record of the segment being read.
func (r *reader) end() int64 { return r.seg.off }

// next returns the next record, io.EOF behind the last one, or what stops the
// reading. At io.EOF the last segment stays open, for end.
func (r *reader) next() (Record, error) {
	for {
		if r.seg == nil {
			if err := r.openSegment(); err != nil {
				return Record{}, err
			}
		}
		rec, err := r.seg.next()
		if err == io.EOF && r.seg.off == 0 {
			return Record{}, r.damage(0, errNoHeader)
		}
		if err == io.EOF && !r.isLast() {
			r.close()
			r.segments = r.segments[1:]
			continue
		}
		if err == nil {
			err = r.check(&rec)
		}
		return rec, r.judge(err)
	}
}

func (r *reader) openSegment() error {
	name := r.segments[0].name
	f, err := files.Open(r.fs, filepath.Join(r.dir, name))
	if err != nil {
		return fmt.Errorf("wal: open segment: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("wal: open segment: %w", err)
	}
	r.seg = newSegmentReader(f, name, info.Size())
	return nil
}

// check extends the CRC chain by one record and, if it holds, steps over it.
// A crc record says what the chain must be at this point; in the first segment
// read it is what the chain starts from.
func (r *reader) check(rec *Record) error {
	if rec.Type == TypeCRC {
		if r.started && rec.CRC != r.crc {
			return crcMismatch(rec.CRC, r.crc)
		}
		r.crc = rec.CRC
	} else {
		crc := updateCRC(r.crc, rec.Data)
		if rec.CRC != crc {
			return crcMismatch(rec.CRC, crc)
		}
		r.crc = crc
	}
	r.started = true
	r.seg.off += rec.Size
	return nil
}

// judge turns what is wrong with the current frame into a *Damage and decides
// whether it is a torn tail. A crash tears only the end of the last segment, and
// never its first record, which was synced before the segment got its name.
func (r *reader) judge(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	inFormat := errors.Is(err, errRunsOver) || errors.Is(err, errMalformed) || errors.Is(err, errCRC)
	if !inFormat {
		return fmt.Errorf("wal: read %s at %d: %w", r.seg.name, r.seg.off, err)
	}
	torn := errors.Is(err, errRunsOver) || hasLostSector(r.seg.frame, r.seg.off+lengthBytes)
	if torn && r.isLast() && r.seg.off > 0 {
		err = fmt.Errorf("%w (%w)", ErrTorn, err)
	}
	return r.damage(r.seg.off, err)
}

func (r *reader) damage(off int64, err error) error {
	return &Damage{File: r.seg.name, Offset: off, Err: err}
}

// segmentReader reads the frames of one segment.
type segmentReader struct {
	file  files.File
	name  string
	size  int64
	in    *bufio.Reader
	off   int64  // of the frame to be read; moved on by the caller once it is good
	frame []byte // record and padding of the frame last read; reused
}

// readAhead is the read buffer; large enough that a 64 MB segment takes few
// system calls.
const readAhead = 256 << 10

func newSegmentReader(f files.File, name string, size int64) *segmentReader {
	in := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), readAhead)
	return &segmentReader{file: f, name: name, size: size, in: in}
}

// next reads the frame at off. The caller adds Size to off to accept it.
func (s *segmentReader) next() (Record, error) {
	var word [lengthBytes]byte
	if n, err := io.ReadFull(s.in, word[:]); err != nil {
		if err == io.ErrUnexpectedEOF && !allZero(word[:n]) {
			err = errRunsOver
		} else if err == io.ErrUnexpectedEOF {
			err = io.EOF // a file of odd size that ends in zeros
		}
		return Record{}, err
	}
	length, pad := splitLength(binary.LittleEndian.Uint64(word[:]))
	if length == 0 && pad == 0 {
		return Record{}, io.EOF
	}
	if length+pad > s.size-s.off-lengthBytes {
		s.frame = s.frame[:0]
		return Record{}, errRunsOver
	}
	if err := s.readFrame(int(length + pad)); err != nil {
		return Record{}, err
	}
	kind, crc, data, err := parseRecord(s.frame[:length])
	return Record{
		Type: kind, CRC: crc, Data: data,
		File: s.name, Offset: s.off, Size: lengthBytes + length + pad,
	}, err
}

func (s *segmentReader) readFrame(n int) error {
	if cap(s.frame) < n {
		s.frame = make([]byte, n)
	}
	s.frame = s.frame[:n]
	_, err := io.ReadFull(s.in, s.frame)
	return err
}
