package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

const (
	// What fio is told when people ask whether a disk will do for etcd: appends
	// of 2,300 bytes, each followed by fdatasync, and 10 ms at the 99th
	// percentile.
	diskWriteBytes = 2300
	diskGoodP99    = 10 * time.Millisecond
	diskFileBytes  = 64 << 20 // a segment of the log, allocated beforehand
)

func (a *app) diskCommand() *cobra.Command {
	var total, size int
	c := &cobra.Command{
		Use:   "disk [directory]",
		Short: "Check whether a disk is fast enough for the log",
		Long: `Appends to a file as the write-ahead log does: small writes into space that
was allocated beforehand, fdatasync after each. A 99th percentile under 10 ms
is good. The file is removed afterwards.`,
		Args: cobra.MaximumNArgs(1),
	}
	c.Flags().IntVar(&total, "total", 2000, "Number of writes")
	c.Flags().IntVar(&size, "size", diskWriteBytes, "Bytes of each write")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		dir := "."
		if len(args) == 1 {
			dir = args[0]
		}
		if size < 1 || size > diskFileBytes {
			return fmt.Errorf("--size must be from 1 to %d", diskFileBytes)
		}
		r, err := checkDisk(cmd.Context(), dir, total, size, a.flags.sample)
		if err != nil {
			return err
		}
		if err := a.finish(cmd, r); err != nil {
			return err
		}
		a.say("\n%s", verdict(r.lat.percentile(50), r.lat.percentile(99)))
		return nil
	}
	return c
}

func verdict(p50, p99 time.Duration) string {
	word := "good"
	if p99 >= diskGoodP99 {
		word = "too slow: expect slow writes, and elections under load"
	}
	return fmt.Sprintf("fdatasync: p50 %.3f ms, p99 %.3f ms (under %v is good): %s", ms(p50), ms(p99), diskGoodP99, word)
}

// checkDisk measures total synced appends in a file of dir.
func checkDisk(ctx context.Context, dir string, total, size int, sample bool) (*report, error) {
	f, err := os.CreateTemp(dir, "benchmark-disk-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := allocate(f); err != nil {
		return nil, err
	}
	buf := randomBytes(size)
	t := newTally(sample)
	start := time.Now()
	for i := 0; i < total && ctx.Err() == nil; i++ {
		from := time.Now()
		at := int64(i) * int64(size) % int64(diskFileBytes-size+1)
		if _, err := f.WriteAt(buf, at); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
		t.done(from, nil)
	}
	return newReport("disk", "", time.Since(start), t), nil
}

// allocate gives the file its blocks, so that writes change no metadata but
// times. Where the file system cannot, zeros do.
func allocate(f *os.File) error {
	if unix.Fallocate(int(f.Fd()), 0, 0, diskFileBytes) == nil {
		return f.Sync()
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < diskFileBytes; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, at); err != nil {
			return err
		}
	}
	return f.Sync()
}
