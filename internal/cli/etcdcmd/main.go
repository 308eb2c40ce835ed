package etcdcmd

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/steledb/stele/embed"
)

// Main runs the command in this process and does not return.
func Main(start Start) {
	signals := make(chan os.Signal, 1)
	// Until the member runs, a signal ends the process at once: nothing has
	// been promised to anybody yet.
	listening := func(ctx context.Context, cfg *embed.Config) (Server, error) {
		server, err := start(ctx, cfg)
		if err == nil {
			signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
		}
		return server, err
	}
	c := Command{
		Args:     os.Args,
		Env:      os.Environ(),
		Stdout:   os.Stdout,
		Stderr:   os.Stderr,
		ReadFile: os.ReadFile,
		Start:    listening,
		Signals:  signals,
	}
	c.Run(context.Background()).leave()
}

// leave ends the process. The init process (pid 1 of a container) is not ended
// by signals it does not handle, so there the status is 0.
func (e Exit) leave() {
	sig, ok := e.Signal.(syscall.Signal)
	if !ok || os.Getpid() == 1 {
		os.Exit(e.Status)
	}
	signal.Reset(sig) // back to the default: the process ends
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		os.Exit(statusFailed)
	}
	select {} // the signal is on its way
}
