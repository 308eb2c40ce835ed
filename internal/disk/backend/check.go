package backend

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"

	"golang.org/x/sys/unix"
)

// A bbolt file is an array of pages of equal size. All numbers are little
// endian.
//
//	page      id u64 | flags u16 | count u16 | overflow u32 | body
//	          a page takes 1+overflow page sizes; count is elements in the body
//	meta      pages 0 and 1, flags 4; the valid one with the higher txid counts
//	          magic u32 | version u32 | page size u32 | flags u32
//	          root page u64 | sequence u64 | freelist page u64 | pages u64 | txid u64
//	          FNV-1a u64 of the bytes from magic to txid
//	branch    flags 1, elements: pos u32 | key size u32 | child page u64
//	leaf      flags 2, elements: flags u32 | pos u32 | key size u32 | value size u32
//	          pos counts from the start of the element; the value follows the key;
//	          element flag 1: the value is a bucket, root page u64 | sequence u64,
//	          and if the root is 0 the bucket's only page, a leaf, follows inline
//	freelist  flags 16, count page numbers u64; count 0xffff: the first is the count
const (
	pageHeader    = 16
	metaBytes     = 64 // from magic to the checksum inclusive
	metaMagic     = 0xED0CDAED
	metaVersion   = 2
	noFreelist    = ^uint64(0)
	branchElement = 16
	leafElement   = 16
	bucketHeader  = 16

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf element

	// No tree that a file of 2^48 bytes can hold is deeper; a cycle of pages is.
	maxDepth = 64
)

// checkFile walks all pages of the trees in a file and returns ErrCorrupt with
// the page if one cannot be what it is meant to be. An empty file is fine: it is
// a new one.
//
// The walk asks all that bbolt takes for granted when it follows pointers, and
// all that its own walk at open asks: that one runs in a goroutine which goes on
// after it has reported damage and its transaction was closed under it.
func checkFile(f *os.File) error {
	size, err := fileSize(f)
	if err != nil || size == 0 {
		return err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %d bytes: %w", size, err)
	}
	defer unix.Munmap(data)
	return checkPages(data)
}

// checker walks one file image.
type checker struct {
	data  []byte
	size  uint64 // of a page
	pages uint64 // in use, and all inside data
	seen  []bool // pages that some tree owns
}

func checkPages(data []byte) error {
	m, err := newestMeta(data)
	if err != nil {
		return err
	}
	if m.pages*m.pageSize > uint64(len(data)) {
		return fmt.Errorf("%w: file is cut off at %d bytes, %d pages of %d are in use",
			ErrCorrupt, len(data), m.pages, m.pageSize)
	}
	c := checker{data: data, size: m.pageSize, pages: m.pages, seen: make([]bool, m.pages)}
	if m.freelist != noFreelist {
		if err := c.checkFreelist(m.freelist); err != nil {
			return err
		}
	}
	_, err = c.checkTree(m.root, rootTree)
	return err
}

type metaPage struct {
	pageSize, root, freelist, pages, txid uint64
}

// newestMeta finds the meta page that counts. The second one is one page in, so
// its place is known only if the first one is whole or by trying page sizes.
func newestMeta(data []byte) (m metaPage, err error) {
	found := false
	take := func(offset uint64) {
		if o, ok := parseMeta(data, offset); ok && (!found || o.txid > m.txid) {
			m, found = o, true
		}
	}
	take(0)
	if found {
		take(m.pageSize)
	} else {
		for size := uint64(1 << 10); size <= 16<<20 && !found; size <<= 1 {
			take(size)
		}
	}
	if !found {
		return m, fmt.Errorf("%w: page 0 and page 1: no valid meta page", ErrCorrupt)
	}
	return m, nil
}

func parseMeta(data []byte, offset uint64) (m metaPage, ok bool) {
	if offset+pageHeader+metaBytes > uint64(len(data)) {
		return m, false
	}
	b := data[offset+pageHeader:][:metaBytes]
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	sum := fnv.New64a()
	sum.Write(b[:56])
	if u32(b) != metaMagic || u32(b[4:]) != metaVersion || u64(b[56:]) != sum.Sum64() {
		return m, false
	}
	m = metaPage{pageSize: uint64(u32(b[8:])), root: u64(b[16:]), freelist: u64(b[32:]), pages: u64(b[40:]), txid: u64(b[48:])}
	sane := m.pageSize >= 1<<10 && m.pageSize <= 16<<20 && m.pageSize&(m.pageSize-1) == 0 && m.pages < 1<<48/m.pageSize
	return m, sane
}

func corrupt(page uint64, format string, args ...any) error {
	return fmt.Errorf("%w: page %d: %s", ErrCorrupt, page, fmt.Sprintf(format, args...))
}

// page returns the bytes of page id with its overflow, and claims them for one
// tree: a page with two parents would be written by both.
func (c *checker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= c.pages {
		return nil, corrupt(id, "outside of the %d pages in use", c.pages)
	}
	b := c.data[id*c.size:]
	if self := binary.LittleEndian.Uint64(b); self != id {
		return nil, corrupt(id, "says it is page %d", self)
	}
	span := 1 + uint64(binary.LittleEndian.Uint32(b[12:]))
	if span > c.pages-id {
		return nil, corrupt(id, "takes %d pages, %d are left", span, c.pages-id)
	}
	for i := id; i < id+span; i++ {
		if c.seen[i] {
			return nil, corrupt(i, "belongs to two places")
		}
		c.seen[i] = true
	}
	return b[:span*c.size], nil
}

func pageHead(b []byte) (flags uint16, count uint64) {
	return binary.LittleEndian.Uint16(b[8:]), uint64(binary.LittleEndian.Uint16(b[10:]))
}

func (c *checker) checkFreelist(id uint64) error {
	b, err := c.page(id)
	if err != nil {
		return err
	}
	flags, count := pageHead(b)
	if flags != flagFreelist {
		return corrupt(id, "flags %#x, wanted those of a free list", flags)
	}
	body, room := b[pageHeader:], uint64(len(b)-pageHeader)/8
	if count == 0xffff {
		count, body, room = binary.LittleEndian.Uint64(body), body[8:], room-1
	}
	if count > room {
		return corrupt(id, "free list of %d pages, %d fit", count, room)
	}
	for i := range count {
		if free := binary.LittleEndian.Uint64(body[8*i:]); free < 2 || free >= c.pages {
			return corrupt(id, "free list names page %d of %d", free, c.pages)
		}
	}
	return nil
}

// place is where in the file a page is: in the tree of buckets or in that of one
// bucket, how deep, and between which keys. A file of etcd has two levels: the
// root holds nothing but buckets, and those hold none.
type place struct {
	bucket bool
	depth  int
	low    []byte // no key is below
	high   []byte // every key is below; nil means no bound
}

var rootTree = place{}

// checkTree follows the pages below id and returns the last key there. Depth
// bounds the recursion; pages are claimed on the way, so that the walk ends.
func (c *checker) checkTree(id uint64, at place) (last []byte, err error) {
	b, err := c.page(id)
	if err != nil {
		return nil, err
	}
	if at.depth > maxDepth {
		return nil, corrupt(id, "tree is deeper than %d", maxDepth)
	}
	switch flags, count := pageHead(b); flags {
	case flagBranch:
		return c.checkBranch(id, b, count, at)
	case flagLeaf:
		return c.checkLeaf(id, b, count, at)
	default:
		return nil, corrupt(id, "flags %#x are no tree page's", flags)
	}
}

// checkOrder checks the i-th key of a page against the one before it, or before
// the page, and the end of the page's keys.
func checkOrder(id, i uint64, key, before []byte, at place) error {
	cmp := bytes.Compare(before, key)
	if cmp > 0 || cmp == 0 && i > 0 || at.high != nil && bytes.Compare(key, at.high) >= 0 {
		return corrupt(id, "key %d (%x) is out of order", i, key)
	}
	return nil
}

func (c *checker) checkBranch(id uint64, b []byte, count uint64, at place) (last []byte, err error) {
	if count == 0 {
		return nil, corrupt(id, "branch without children")
	}
	if pageHeader+count*branchElement > uint64(len(b)) {
		return nil, corrupt(id, "%d elements do not fit", count)
	}
	key, err := branchKey(id, b, 0)
	if err != nil {
		return nil, err
	}
	last = at.low
	for i := range count {
		if err := checkOrder(id, i, key, last, at); err != nil {
			return nil, err
		}
		below := place{at.bucket, at.depth + 1, key, at.high}
		if i+1 < count {
			if key, err = branchKey(id, b, i+1); err != nil {
				return nil, err
			}
			below.high = key
		}
		child := binary.LittleEndian.Uint64(b[pageHeader+i*branchElement+8:])
		if last, err = c.checkTree(child, below); err != nil {
			return nil, err
		}
	}
	return last, nil
}

func branchKey(id uint64, b []byte, i uint64) ([]byte, error) {
	start := pageHeader + i*branchElement
	from := start + uint64(binary.LittleEndian.Uint32(b[start:]))
	to := from + uint64(binary.LittleEndian.Uint32(b[start+4:]))
	if to > uint64(len(b)) {
		return nil, corrupt(id, "key of element %d ends outside", i)
	}
	return b[from:to:to], nil
}

func (c *checker) checkLeaf(id uint64, b []byte, count uint64, at place) (last []byte, err error) {
	if pageHeader+count*leafElement > uint64(len(b)) {
		return nil, corrupt(id, "%d elements do not fit", count)
	}
	last = at.low
	for i := range count {
		start := pageHeader + i*leafElement
		e := b[start:][:leafElement]
		u32 := binary.LittleEndian.Uint32
		from := start + uint64(u32(e[4:]))
		value := from + uint64(u32(e[8:]))
		end := value + uint64(u32(e[12:]))
		if end > uint64(len(b)) {
			return nil, corrupt(id, "pair %d ends outside", i)
		}
		key := b[from:value:value]
		if err := checkOrder(id, i, key, last, at); err != nil {
			return nil, err
		}
		last = key
		isBucket := u32(e)&flagBucket != 0
		if isBucket == at.bucket {
			return nil, corrupt(id, "pair %d: a bucket where a value must be, or the other way round", i)
		}
		if !isBucket {
			continue
		}
		if err := c.checkBucket(id, b[value:end]); err != nil {
			return nil, err
		}
	}
	return last, nil
}

// checkBucket checks a bucket given by its value in leaf page id.
func (c *checker) checkBucket(id uint64, v []byte) (err error) {
	if len(v) < bucketHeader {
		return corrupt(id, "bucket of %d bytes", len(v))
	}
	inside := place{bucket: true}
	if root := binary.LittleEndian.Uint64(v); root != 0 {
		_, err = c.checkTree(root, inside)
		return err
	}
	inline := v[bucketHeader:]
	if len(inline) < pageHeader {
		return corrupt(id, "inline bucket of %d bytes", len(inline))
	}
	flags, count := pageHead(inline)
	if flags != flagLeaf {
		return corrupt(id, "flags %#x are no inline bucket's", flags)
	}
	_, err = c.checkLeaf(id, inline, count, inside)
	return err
}
