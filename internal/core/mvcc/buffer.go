package mvcc

import (
	"slices"
	"sort"
)

const chunkRecords = 256

// chunk is a run of records. Positions are written once, in order.
type chunk [chunkRecords]Record

// buffered is a stretch of the write buffer: records [start, end) in revision
// order, record i at chunks[i/256][i%256]. As a value inside a view it never
// changes; the store's own one grows at the end and loses its front.
//
// Growing writes only positions at or beyond the end of every view; losing the
// front makes a new list of chunks. So views need no lock to read theirs.
type buffered struct {
	chunks     []*chunk
	start, end int
}

func (b *buffered) at(i int) Record { return b.chunks[i/chunkRecords][i%chunkRecords] }

func (b *buffered) len() int { return b.end - b.start }

// append adds records at the end.
func (b *buffered) append(recs []Record) {
	for len(recs) > 0 {
		if b.end == len(b.chunks)*chunkRecords {
			b.chunks = append(b.chunks, new(chunk))
		}
		n := copy(b.chunks[b.end/chunkRecords][b.end%chunkRecords:], recs)
		b.end += n
		recs = recs[n:]
	}
}

// from is the position of the first record at or after revision main.
func (b *buffered) from(main int64) int {
	return b.start + sort.Search(b.len(), func(i int) bool { return mainOf(b.at(b.start+i).Key) >= main })
}

// find returns the record written at rev.
func (b *buffered) find(rev Rev) (Record, bool) {
	i := b.start + sort.Search(b.len(), func(i int) bool { return !revOf(b.at(b.start + i).Key).Less(rev) })
	if i == b.end || revOf(b.at(i).Key) != rev {
		return Record{}, false
	}
	return b.at(i), true
}

// dropTo forgets the records up to revision main and returns their size. The
// chunk in which the cut falls is copied, so that the forgotten records of it
// are not kept alive by the others.
func (b *buffered) dropTo(main int64) (sizeBytes int64) {
	cut := b.from(main + 1)
	for i := b.start; i < cut; i++ {
		sizeBytes += b.at(i).sizeBytes()
	}
	if cut == b.end {
		*b = buffered{}
		return sizeBytes
	}
	gone := cut / chunkRecords
	b.chunks = slices.Clone(b.chunks[gone:])
	b.start, b.end = cut-gone*chunkRecords, b.end-gone*chunkRecords
	first := new(chunk)
	copy(first[b.start:], b.chunks[0][b.start:])
	b.chunks[0] = first
	return sizeBytes
}

// records lists what the stretch holds up to revision main.
func (b *buffered) records(main int64) []Record {
	end := b.from(main + 1)
	out := make([]Record, 0, end-b.start)
	for i := b.start; i < end; i++ {
		out = append(out, b.at(i))
	}
	return out
}
