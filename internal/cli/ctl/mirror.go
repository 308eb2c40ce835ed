package ctl

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/steledb/stele/internal/cli/flagval"
	"github.com/steledb/stele/internal/client"
)

const (
	mirrorBatch  = 1000             // keys per read of the first copy
	mirrorReport = 30 * time.Second // between two lines of progress
)

// mirrorFlags say what is mirrored and under which names.
type mirrorFlags struct {
	prefix, destPrefix string
	noDestPrefix       bool
	rev                int64
	maxTxnOps          uint
	dest               struct {
		files             tlsFiles
		user, password    string
		insecureTransport bool
	}
}

func (a *app) makeMirrorCommand() *cobra.Command {
	var f mirrorFlags
	cmd := &cobra.Command{Use: "make-mirror [options] <destination>", Short: "Makes a mirror at the destination etcd cluster", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("make-mirror takes one destination argument")
		}
		if f.destPrefix != "" && f.noDestPrefix {
			return badArgs("`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
		}
		src, err := a.connect(cmd)
		if err != nil {
			return err
		}
		dst, err := a.connectMirror(&f, args[0])
		if err != nil {
			return err
		}
		defer dst.Close()
		m := &mirror{src: src, dst: dst, f: &f}
		go a.reportMirror(m)
		return m.run(context.Background())
	})}
	fs := cmd.Flags()
	fs.StringVar(&f.prefix, "prefix", "", "Key-value prefix to mirror")
	flagval.Int64(fs, &f.rev, "rev", 0, "Specify the kv revision to start to mirror")
	fs.UintVar(&f.maxTxnOps, "max-txn-ops", 128, "Maximum number of operations permitted in a transaction during syncing updates")
	fs.StringVar(&f.destPrefix, "dest-prefix", "", "destination prefix to mirror a prefix to a different prefix in the destination cluster")
	fs.BoolVar(&f.noDestPrefix, "no-dest-prefix", false, "mirror key-values to the root of the destination cluster")
	fs.StringVar(&f.dest.files.cert, "dest-cert", "", "Identify secure client using this TLS certificate file for the destination cluster")
	fs.StringVar(&f.dest.files.key, "dest-key", "", "Identify secure client using this TLS key file")
	fs.StringVar(&f.dest.files.ca, "dest-cacert", "", "Verify certificates of TLS enabled secure servers using this CA bundle")
	fs.BoolVar(&f.dest.insecureTransport, "dest-insecure-transport", true, "Disable transport security for client connections")
	fs.StringVar(&f.dest.user, "dest-user", "", "Destination username[:password] for authentication (prompt if password is not supplied)")
	fs.StringVar(&f.dest.password, "dest-password", "", "Destination password for authentication (if this option is used, --user option shouldn't include password)")
	return cmd
}

func (a *app) connectMirror(f *mirrorFlags, endpoint string) (*client.Client, error) {
	secure, err := tlsConfig(f.dest.files, f.dest.insecureTransport, false)
	if err != nil {
		return nil, withCode(exitBadArgs, err)
	}
	user, password, err := a.askCredentials(f.dest.user, f.dest.password, "Destination Password: ")
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(context.Background(), client.Config{
		Endpoints: []string{endpoint}, TLS: secure, Username: user, Password: password,
		DialTimeout: a.flags.dialTimeout, KeepAliveTime: a.flags.keepAliveTime, KeepAliveTimeout: a.flags.keepAliveTimeout,
		Logger: a.logger("etcd-client"),
	})
	return c, withCode(exitBadConnection, err)
}

func (a *app) reportMirror(m *mirror) {
	for range time.Tick(mirrorReport) {
		fmt.Fprintln(a.stdout, m.total.Load())
	}
}

// mirror copies a prefix once, then follows its events. Each revision of the
// source is one transaction at the destination, unless it has more changes
// than a transaction may have.
type mirror struct {
	src, dst *client.Client
	f        *mirrorFlags
	total    atomic.Int64 // keys copied and events applied
}

func (m *mirror) run(ctx context.Context) error {
	start := m.f.rev
	if start == 0 {
		// Without --rev the copies keep the prefix unless told otherwise. With
		// it they do not: etcdctl only sets the default when it copies first.
		if m.f.destPrefix == "" && !m.f.noDestPrefix {
			m.f.destPrefix = m.f.prefix
		}
		rev, err := m.copyAll(ctx)
		if err != nil {
			return err
		}
		start = rev + 1
	}
	return m.follow(ctx, start)
}

// copyAll copies the keys as they are at one revision, and returns it.
func (m *mirror) copyAll(ctx context.Context) (rev int64, err error) {
	key, end, _ := prefixSpan(m.f.prefix)
	for {
		resp, err := m.src.Range(ctx, &pb.RangeRequest{Key: key, RangeEnd: end, Limit: mirrorBatch, Revision: rev})
		if err != nil {
			return 0, err
		}
		rev = resp.Header.GetRevision()
		for _, kv := range resp.Kvs {
			if _, err := m.dst.Put(ctx, &pb.PutRequest{Key: m.rename(kv.Key), Value: kv.Value}); err != nil {
				return 0, err
			}
			m.total.Add(1)
		}
		if !resp.More {
			return rev, nil
		}
		key = append(bytes.Clone(resp.Kvs[len(resp.Kvs)-1].Key), 0)
	}
}

func (m *mirror) follow(ctx context.Context, start int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key, end, _ := prefixSpan(m.f.prefix)
	w := m.src.NewWatcher(ctx)
	defer w.Close()
	for resp := range w.Watch(client.WatchRequest{Key: key, RangeEnd: end, Rev: start}) {
		if resp.Canceled {
			return withCode(exitInterrupted, resp.Err)
		}
		if err := m.apply(ctx, resp.Events); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// apply writes events in order, cut where the revision changes or a
// transaction is full.
func (m *mirror) apply(ctx context.Context, events []*mvccpb.Event) error {
	for len(events) > 0 {
		n := 1
		for n < len(events) && n < int(m.f.maxTxnOps) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
			n++
		}
		if err := m.applyTxn(ctx, events[:n]); err != nil {
			return err
		}
		m.total.Add(int64(n))
		events = events[n:]
	}
	return nil
}

func (m *mirror) applyTxn(ctx context.Context, events []*mvccpb.Event) error {
	txn := &pb.TxnRequest{}
	for _, ev := range events {
		key := m.rename(ev.Kv.Key)
		if ev.Type == mvccpb.Event_DELETE {
			txn.Success = append(txn.Success, deleteOp(&pb.DeleteRangeRequest{Key: key}))
		} else {
			txn.Success = append(txn.Success, putOp(&pb.PutRequest{Key: key, Value: ev.Kv.Value}))
		}
	}
	_, err := m.dst.Txn(ctx, txn)
	return err
}

func (m *mirror) rename(key []byte) []byte {
	return append([]byte(m.f.destPrefix), bytes.TrimPrefix(key, []byte(m.f.prefix))...)
}
