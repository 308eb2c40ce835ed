package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/cli/flagval"
	"github.com/steledb/stele/internal/client"
)

// The variables that may stand in for the arguments of watch.
const (
	envWatchKey      = "ETCDCTL_WATCH_KEY"
	envWatchRangeEnd = "ETCDCTL_WATCH_RANGE_END"
)

// watchFlags are the flags of one watch, given to the command or on a line of
// `watch -i`.
type watchFlags struct {
	rev                            int64
	prefix, prevKV, progressNotify bool
}

func (f *watchFlags) register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.prefix, "prefix", false, "Watch on a prefix if prefix is set")
	flagval.Int64(fs, &f.rev, "rev", 0, "Revision to start watching")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "get the previous key-value pair before the event happens")
	fs.BoolVar(&f.progressNotify, "progress-notify", false, "get periodic watch progress notification from server")
}

var errWatchPrefix = errors.New("`range_end` and `--prefix` are mutually exclusive")

func (f *watchFlags) request(args []string) (client.WatchRequest, error) {
	if f.prefix && len(args) > 1 {
		return client.WatchRequest{}, errWatchPrefix
	}
	key, end, err := spanFlags{prefix: f.prefix}.span(args)
	if err == nil && len(key) == 0 && end == nil {
		key = []byte{0} // no key is empty; this is what a server takes it for
	}
	return client.WatchRequest{Key: key, RangeEnd: end, Rev: f.rev, PrevKV: f.prevKV, ProgressNotify: f.progressNotify}, err
}

func (a *app) watchCommand() *cobra.Command {
	var f watchFlags
	var interactive bool
	cmd := &cobra.Command{
		Use:   "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
		Short: "Watches events stream on keys or prefixes",
		Long: `Watches a key, a prefix or a range and prints its events.

What follows "--" is run for every event, with ETCD_WATCH_REVISION,
ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE in its environment.
ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END stand in for the arguments.
With -i, watches are started by lines of standard input ("watch foo --rev 2"),
and "progress" asks the server how far they have come.`,
		Run: a.run(func(cmd *cobra.Command, args []string) error {
			if interactive {
				return a.watchInteractive(cmd)
			}
			return a.watchOnce(cmd, &f, args)
		}),
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "Interactive mode")
	return cmd
}

func (a *app) watchOnce(cmd *cobra.Command, f *watchFlags, args []string) error {
	args, command, err := a.watchArgs(args, cmd.ArgsLenAtDash())
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	req, err := f.request(args)
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	w := c.NewWatcher(context.Background())
	defer w.Close()
	if err := a.printWatch(w.Watch(req), command); err != nil {
		return err
	}
	return &exitError{exitInterrupted, errors.New("watch is canceled by the server")}
}

// watchArgs separates what to watch from the command to run. dash is the
// number of arguments before "--", -1 without it.
func (a *app) watchArgs(args []string, dash int) (what, command []string, err error) {
	what = args
	if dash >= 0 {
		what, command = args[:dash], args[dash:]
		if len(command) == 0 {
			return nil, nil, errors.New("bad number of arguments (found separator --, but no commands)")
		}
	}
	key, end := a.env(envWatchKey), a.env(envWatchRangeEnd)
	switch {
	case key == "" && end != "":
		return nil, nil, fmt.Errorf("%s is empty but got %s=%q", envWatchKey, envWatchRangeEnd, end)
	case key != "" && len(what) > 0:
		return nil, nil, errors.New("bad number of arguments (found conflicting environment key)")
	case key != "" && end != "":
		what = []string{key, end}
	case key != "":
		what = []string{key}
	case len(what) == 0:
		return nil, nil, errors.New("bad number of arguments")
	}
	return what, command, nil
}

// watchInteractive starts watches by lines of standard input until that ends.
func (a *app) watchInteractive(cmd *cobra.Command) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	w := c.NewWatcher(context.Background())
	defer w.Close()
	ended := make(chan error) // a watch that cannot go on ends the session
	lines := make(chan string)
	readErr := make(chan error, 1)
	go func() {
		for {
			line, err := a.in.ReadString('\n')
			if err != nil {
				readErr <- err
				return
			}
			lines <- strings.TrimSuffix(line, "\n")
		}
	}()
	for {
		select {
		case line := <-lines:
			if err := a.watchLine(w, line, ended); err != nil {
				return err
			}
		case err := <-ended:
			return err
		case err := <-readErr:
			return invalidInput("error reading watch request line: %w", err)
		}
	}
}

func (a *app) watchLine(w *client.Watcher, line string, ended chan<- error) error {
	args := argify(line)
	if len(args) == 0 {
		fmt.Fprintf(a.stderr, "Invalid command: %s (watch and progress supported)\n", line)
		return nil
	}
	switch args[0] {
	case "watch":
		return a.watchFromLine(w, line, args[1:], ended)
	case "progress":
		w.RequestProgress()
	default:
		fmt.Fprintf(a.stderr, "Invalid command %s (only support watch)\n", line)
	}
	return nil
}

func (a *app) watchFromLine(w *client.Watcher, line string, args []string, ended chan<- error) error {
	if len(args) == 0 && a.env(envWatchKey) == "" {
		fmt.Fprintf(a.stderr, "Invalid command %s (command type or key is not provided)\n", line)
		return nil
	}
	var f watchFlags
	fs := pflag.NewFlagSet("watch", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	f.register(fs)
	if err := fs.Parse(args); err != nil {
		return withCode(exitBadArgs, err)
	}
	args, command, err := a.watchArgs(fs.Args(), fs.ArgsLenAtDash())
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	req, err := f.request(args)
	if err != nil {
		fmt.Fprintf(a.stderr, "Invalid command %s (%v)\n", line, err)
		return nil
	}
	responses := w.Watch(req)
	go func() {
		if err := a.printWatch(responses, command); err != nil {
			ended <- err
		}
	}()
	return nil
}

// printWatch shows responses until the watch ends. Several watches of one
// session print at once; each response is one piece.
func (a *app) printWatch(responses <-chan client.WatchResponse, command []string) error {
	out := &printer{w: a.out.w, format: a.out.format, hex: a.out.hex}
	for resp := range responses {
		if resp.Canceled {
			fmt.Fprintf(a.stderr, "watch was canceled (%v)\n", resp.Err)
		}
		if resp.IsProgress() {
			fmt.Fprintf(a.stdout, "progress notify: %d\n", resp.Header.GetRevision())
		}
		if err := out.show(watchResult(resp)); err != nil {
			return err
		}
		if len(command) == 0 {
			continue
		}
		for _, ev := range resp.Events {
			if err := a.runForEvent(command, resp.Header.GetRevision(), ev); err != nil {
				fmt.Fprintf(a.stderr, "command %q error (%v)\n", command, err)
				return quiet(exitFailure)
			}
		}
	}
	return nil
}

func (a *app) runForEvent(command []string, rev int64, ev *mvccpb.Event) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(),
		fmt.Sprintf("ETCD_WATCH_REVISION=%d", rev),
		fmt.Sprintf("ETCD_WATCH_EVENT_TYPE=%q", ev.Type),
		fmt.Sprintf("ETCD_WATCH_KEY=%q", ev.Kv.Key),
		fmt.Sprintf("ETCD_WATCH_VALUE=%q", ev.Kv.Value),
	)
	cmd.Stdout, cmd.Stderr = a.stdout, a.stderr
	return cmd.Run()
}

// watchJSON is a watch response in JSON. All its fields are always there, and
// Created never is true: creations are not shown.
type watchJSON struct {
	Header          *pb.ResponseHeader
	Events          []*mvccpb.Event
	CompactRevision int64
	Canceled        bool
	Created         bool
	CancelReason    string
}

func watchResult(resp client.WatchResponse) result {
	header := resp.Header
	if header == nil {
		header = &pb.ResponseHeader{}
	}
	return result{
		simple: func(p *printer) {
			for _, ev := range resp.Events {
				p.event(ev)
			}
		},
		fields: func(p *printer) {
			p.header(header)
			for _, ev := range resp.Events {
				p.eventFields(ev)
			}
		},
		json: watchJSON{
			Header: header, Events: resp.Events, CompactRevision: resp.CompactRevision, Canceled: resp.Canceled,
		},
		proto: watchProto(resp),
	}
}

func watchProto(resp client.WatchResponse) proto.Message {
	return &pb.WatchResponse{
		Header: resp.Header, Events: resp.Events, CompactRevision: resp.CompactRevision, Canceled: resp.Canceled,
	}
}
