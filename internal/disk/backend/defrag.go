package backend

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tmpInfix = ".tmp."

	// roomMargin is disk room asked for beyond the pairs themselves: bbolt lets
	// a file grow in steps of 16 MiB, and commits go on meanwhile.
	roomMargin = 32 << 20

	// A copy ends with commits that arrived while the last ones were replayed.
	// Each round is shorter than the one before unless commits are faster than
	// the replay; then the bound ends it, and the swap takes what is left.
	catchUpRounds = 16
)

// Defrag implements Backend. The file is copied in the background, chunk by
// chunk, while commits go on; then the copy takes the file's name. Reads never
// wait. A commit waits for at most a chunk's start and, once, for the last few
// commits to be replayed, the rename, and two syncs: DefragStats.Stall.
//
// After a crash at any point the name stands either for the old file or for the
// copy, and each holds everything that was committed when it was named last.
func (b *Bolt) Defrag(ctx context.Context) (DefragStats, error) {
	start := time.Now()
	stats, err := b.defrag(ctx)
	if err != nil {
		return DefragStats{}, fmt.Errorf("backend: defragment %s: %w", b.path, err)
	}
	stats.Took = time.Since(start)
	return stats, nil
}

func (b *Bolt) defrag(ctx context.Context) (stats DefragStats, err error) {
	if b.opt.ReadOnly {
		return stats, ErrReadOnly
	}
	select {
	case b.defragTurn <- struct{}{}:
		defer func() { <-b.defragTurn }()
	case <-ctx.Done():
		return stats, ctx.Err()
	case <-b.closing:
		return stats, ErrClosed
	}
	stats.Before = b.Size()
	c, err := b.beginDefrag()
	if err != nil {
		return stats, err
	}
	if err = b.carryOut(ctx, c, &stats); err != nil {
		b.commitMu.Lock()
		b.copying = nil
		b.commitMu.Unlock()
		c.discard()
		return stats, err
	}
	stats.After = b.Size()
	return stats, nil
}

// beginDefrag starts a copy that is told of every commit from now on.
func (b *Bolt) beginDefrag() (*fileCopy, error) {
	if err := b.checkDiskRoom(); err != nil {
		return nil, err
	}
	b.commitMu.Lock()
	defer b.commitMu.Unlock()
	c, err := b.newCopyLocked(0)
	if err != nil {
		return nil, err
	}
	b.copying = c
	return c, nil
}

func (b *Bolt) carryOut(ctx context.Context, c *fileCopy, stats *DefragStats) error {
	for !c.done() {
		if err := b.mayGoOn(ctx); err != nil {
			return err
		}
		if err := b.copyChunk(c); err != nil {
			return err
		}
		b.onStep("chunk")
	}
	// The sync that takes long, of all that was copied, comes before the lock.
	for range catchUpRounds {
		if err := b.mayGoOn(ctx); err != nil {
			return err
		}
		if err := c.h.db.Sync(); err != nil {
			return fmt.Errorf("sync %s: %w", c.path, err)
		}
		b.onStep("sync")
		n, err := b.replay(c)
		if err != nil {
			return err
		}
		if n <= 1 {
			break
		}
	}
	if err := c.h.db.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", c.path, err)
	}
	b.onStep("swap")

	b.commitMu.Lock()
	defer b.commitMu.Unlock()
	locked := time.Now()
	defer func() { stats.Stall = time.Since(locked) }()
	return b.swapLocked(c)
}

func (b *Bolt) mayGoOn(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-b.closing:
		return ErrClosed
	default:
		return nil
	}
}

// copyChunk brings the copy forward. The read begins in the same moment as the
// list of commits is emptied: what the list held is replayed as far as it is
// behind the copy's position, everything else is in what the read sees.
func (b *Bolt) copyChunk(c *fileCopy) error {
	b.commitMu.Lock()
	delta, err := c.takeDeltaLocked()
	if err != nil {
		b.commitMu.Unlock()
		return err
	}
	r, err := b.beginRead()
	b.commitMu.Unlock()
	if err != nil {
		return err
	}
	defer r.Release()
	return c.advance(r.tx, delta)
}

// replay applies the commits that came since the copy reached the end, and
// returns how many there were.
func (b *Bolt) replay(c *fileCopy) (int, error) {
	b.commitMu.Lock()
	delta, err := c.takeDeltaLocked()
	b.commitMu.Unlock()
	if err != nil || len(delta) == 0 {
		return 0, err
	}
	_, err = commit(c.h.db, delta, nil)
	return len(delta), err
}

// swapLocked makes a complete copy the file, and from here on commits to it are
// synced like any. No commit may go to the new file before the directory is
// synced, or a crash could bring the old file back without it. After an error the
// old file is in place as before.
func (b *Bolt) swapLocked(c *fileCopy) error {
	delta, err := c.takeDeltaLocked()
	if err != nil {
		return err
	}
	c.h.db.NoSync = b.opt.NoSync
	if len(delta) > 0 {
		if _, err := commit(c.h.db, delta, nil); err != nil {
			return fmt.Errorf("replay to %s: %w", c.path, err)
		}
	}
	if err := os.Rename(c.path, b.path); err != nil {
		return err
	}
	b.mu.Lock()
	old := b.cur
	b.cur = c.h
	b.mu.Unlock()
	b.noteSizes(c.h)
	b.copying = nil
	b.dirUnsynced = true
	_ = b.syncDirLocked() // if it fails, the next commit tries again and tells
	b.retireLocked(old)
	return nil
}

// syncDirLocked makes the last rename durable, if it is not yet.
func (b *Bolt) syncDirLocked() error {
	if !b.dirUnsynced {
		return nil
	}
	if err := syncDir(filepath.Dir(b.path)); err != nil {
		return fmt.Errorf("sync directory of %s: %w", b.path, err)
	}
	b.dirUnsynced = false
	return nil
}

// checkDiskRoom fails if a copy would not fit beside the file.
func (b *Bolt) checkDiskRoom() error {
	free, err := b.opt.FreeBytes(filepath.Dir(b.path))
	if err != nil {
		return fmt.Errorf("ask for free disk room: %w", err)
	}
	if need := b.SizeInUse() + roomMargin; free < need {
		return fmt.Errorf("%w: a copy needs %d bytes, %d are free", ErrDiskRoom, need, free)
	}
	return nil
}

func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// Running out of address space.
//
// bbolt remaps a file that outgrows its map, and waits for every read to end
// before. The store holds a base until the flusher has committed the next one,
// so the two would wait for each other for ever. Instead, a commit that might
// outgrow the map first moves everything to a new file with a larger one, as a
// defragmentation does; readers keep the old file and its map. With the default
// reservation this happens only to files that quadruple while a member runs.

// ensureRoomLocked makes sure that batch fits into the map.
func (b *Bolt) ensureRoomLocked(batch *Batch) error {
	h, err := b.current()
	if err != nil {
		return err
	}
	defer h.release()
	size, inUse := b.Size(), b.SizeInUse()
	need := size + batch.pagesMax(inUse)
	if need < h.mapped {
		return nil
	}
	if err := b.moveLocked(max(2*h.mapped, growthRoom*need)); err != nil {
		return fmt.Errorf("move to a larger memory map: %w", err)
	}
	return nil
}

// moveLocked copies the file while commits wait, and takes the copy.
func (b *Bolt) moveLocked(mapped int64) error {
	if err := b.checkDiskRoom(); err != nil {
		return err
	}
	c, err := b.newCopyLocked(mapped)
	if err != nil {
		return err
	}
	running := b.copying // a defragmentation under way reads on from the new file
	if err := b.fillLocked(c); err != nil {
		c.discard()
		return err
	}
	if err := b.swapLocked(c); err != nil {
		c.discard()
		return err
	}
	b.copying = running
	return nil
}

func (b *Bolt) fillLocked(c *fileCopy) error {
	r, err := b.beginRead()
	if err != nil {
		return err
	}
	defer r.Release()
	for !c.done() {
		if err := c.advance(r.tx, nil); err != nil {
			return err
		}
	}
	return c.h.db.Sync()
}

// pagesMax is an upper bound of the bytes of pages that a batch can make bbolt
// write, all of them new: its bytes in pages that may be a third full, and the
// pages on the way to each change, where no more than all of them can change.
func (batch *Batch) pagesMax(inUse int64) int64 {
	const page = 64 << 10 // the largest page of any system
	const perChange = 8   // pages on the way down, and a neighbour merged with
	bytes, changes := int64(0), int64(0)
	for _, r := range batch.Records {
		bytes += int64(len(r.Key) + len(r.Value))
	}
	for _, op := range batch.Ops {
		bytes += int64(len(op.Key) + len(op.Value))
	}
	changes = int64(len(batch.Records)+len(batch.Deletes)+len(batch.Ops)) + 2
	osPage := int64(os.Getpagesize())
	return 3*bytes + min(changes*perChange*osPage, 2*inUse+bytes) + page
}
