package ctl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/logs"
	"github.com/steledb/stele/internal/client"
)

func (a *app) snapshotCommand() *cobra.Command {
	return group("snapshot <subcommand>", "Manages etcd node snapshots",
		&cobra.Command{Use: "save <filename>", Short: "Stores an etcd node backend snapshot to a given file",
			Run: a.run(func(cmd *cobra.Command, args []string) error {
				if len(args) != 1 {
					return badArgs("snapshot save expects one argument <filename>")
				}
				c, err := a.connect(cmd)
				if err != nil {
					return err
				}
				ctx, cancel := a.timeoutIfAsked(cmd)
				defer cancel()
				version, err := a.saveSnapshot(ctx, c, args[0])
				if err != nil {
					return withCode(exitInterrupted, err)
				}
				fmt.Fprintf(a.stdout, "Snapshot saved at %s\n", args[0])
				if version != "" {
					fmt.Fprintf(a.stdout, "Server version %s\n", version)
				}
				return nil
			})})
}

// saveSnapshot fetches the backend file of one member. It comes into being as
// <path>.part and takes its name when all of it, checked, is on disk; a crash
// or an error leaves at most the part behind, and an older file untouched.
func (a *app) saveSnapshot(ctx context.Context, c *client.Client, path string) (version string, err error) {
	if len(c.Endpoints()) != 1 {
		return "", fmt.Errorf("snapshot must be requested to one selected node, not multiple %v", c.Endpoints())
	}
	part := path + ".part"
	defer func() {
		if err != nil {
			os.Remove(part)
		}
	}()
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("could not open %s (%w)", part, err)
	}
	defer f.Close()
	log := a.logger("")
	log.Info("created temporary db file", "path", part)

	start := time.Now()
	size, version, err := a.fetchSnapshot(ctx, c, f, log)
	if err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", fmt.Errorf("could not sync %s (%w)", part, err)
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	log.Info("fetched snapshot", "endpoint", c.Endpoints()[0], "size", humanize.Bytes(uint64(size)),
		"took", time.Since(start).String(), "etcd-version", version)
	if err := os.Rename(part, path); err != nil {
		return "", fmt.Errorf("could not rename %s to %s (%w)", part, path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return "", err
	}
	log.Info("saved", "path", path)
	return version, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// fetchSnapshot copies the stream into f and checks its digest.
func (a *app) fetchSnapshot(ctx context.Context, c *client.Client, f io.Writer, log *slog.Logger) (size int64, version string, err error) {
	stream, err := c.Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		a.logger("client").Error("streamer failed to create ClientStream", "error", err)
		return 0, "", client.CallError(ctx, err)
	}
	streamLog := logs.Named(log, "client")
	streamLog.Info("opened snapshot stream; downloading")
	var sum trailerDigest
	for first := true; ; first = false {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			streamLog.Warn("failed to receive from snapshot stream; closing", "error", err)
			return 0, "", streamedError(ctx, err)
		}
		if first { // only now does a server that refuses say so
			log.Info("fetching snapshot", "endpoint", c.Endpoints()[0])
		}
		if resp.Version != "" {
			version = resp.Version
		}
		sum.Write(resp.Blob)
		size += int64(len(resp.Blob))
		if _, err := f.Write(resp.Blob); err != nil {
			return 0, "", err
		}
	}
	streamLog.Info("completed snapshot read; closing")
	return size, version, sum.check(size)
}

// streamedError keeps what the server said in gRPC's words; only the end of
// our own time is told plainly.
func streamedError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// trailerDigest hashes everything but the last 32 bytes it was given, and
// keeps those to compare. The zero value is ready.
type trailerDigest struct {
	digest interface {
		io.Writer
		Sum([]byte) []byte
	}
	trailer []byte // at most sha256.Size bytes, not hashed yet
}

func (d *trailerDigest) Write(p []byte) {
	if d.digest == nil {
		d.digest = sha256.New()
	}
	d.trailer = append(d.trailer, p...)
	if n := len(d.trailer) - sha256.Size; n > 0 {
		d.digest.Write(d.trailer[:n])
		d.trailer = append(d.trailer[:0], d.trailer[n:]...)
	}
}

func (d *trailerDigest) check(size int64) error {
	// A database is whole pages; 32 more bytes are the digest.
	if size%512 != sha256.Size {
		return fmt.Errorf("sha256 checksum not found [bytes: %d]", size)
	}
	if got := d.digest.Sum(nil); !bytes.Equal(got, d.trailer) {
		return fmt.Errorf("expected sha256 %v, got %v", d.trailer, got)
	}
	return nil
}
