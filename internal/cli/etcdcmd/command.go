// Package etcdcmd is the etcd command: it finds the configuration, starts the
// member, waits for its end or a signal, and says with its exit status how it
// went.
//
//	0        help or version shown; member stopped by itself
//	1        wrong configuration, failed start, failed listener
//	2        wrong command line; database that cannot be used
//	signal   stopped in order after SIGINT or SIGTERM, then ended by that same
//	         signal, so that a parent process sees the cause
//
// The package owns the texts of the command (usage, startup lines). What a
// member does, and its log lines, belong to package embed.
package etcdcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/steledb/stele/embed"
	"github.com/steledb/stele/internal/base/logs"
	"github.com/steledb/stele/internal/base/version"
)

// Server is a running member, as far as the command is concerned.
type Server interface {
	// Done is closed when the member has ended.
	Done() <-chan struct{}
	// Err says why, after Done: nil for an orderly stop.
	Err() error
	// Stop ends the member in order and returns when it has ended.
	Stop()
}

// Start starts a member. It returns once the member can take part in its
// cluster; ctx ends the attempt.
type Start func(ctx context.Context, cfg *embed.Config) (Server, error)

// Command is one run of the command with everything it touches.
type Command struct {
	Args     []string // with the program's name first
	Env      []string
	Stdout   io.Writer
	Stderr   io.Writer
	ReadFile func(string) ([]byte, error)
	Start    Start
	// Signals delivers the signals that ask for an orderly end.
	Signals <-chan os.Signal
	// Early is the log until the configuration names one; nil for the default.
	Early *slog.Logger
}

// Exit is how a run ended: with a status, or by the signal that asked for it.
type Exit struct {
	Status int
	Signal os.Signal // nil: exit with Status
}

// Exit statuses of the command.
const (
	statusOK     = 0
	statusFailed = 1
	statusUsage  = 2
	statusPanic  = 2
)

// Run does everything from the command line to the end of the member.
func (c *Command) Run(ctx context.Context) Exit {
	if c.Early == nil {
		c.Early = logs.Default().Logger
	}
	cfg, err := embed.Parse(embed.Input{Args: c.Args[1:], Env: c.Env, ReadFile: c.ReadFile, Early: c.Early})
	log := c.Early
	if cfg != nil && cfg.HasLog() {
		log = cfg.Log()
	}
	if err != nil {
		return Exit{Status: c.refuse(log, err)}
	}
	log.Info("Running: ", "args", c.Args)
	return c.serve(ctx, log, cfg)
}

// refuse tells why there will be no server. Asking for help is the kindest of
// the reasons.
func (c *Command) refuse(log *slog.Logger, err error) int {
	var wrongFlag *embed.FlagError
	var wrongLevel *logs.LevelError
	var wrongURL *embed.FileURLError
	var shadowed *embed.ShadowedError
	switch {
	case errors.Is(err, embed.ErrHelp):
		fmt.Fprint(c.Stderr, usage)
		fmt.Fprint(c.Stdout, flagHelp())
		return statusOK
	case errors.Is(err, embed.ErrVersion):
		fmt.Fprint(c.Stdout, version.Text())
		return statusOK
	case errors.As(err, &wrongFlag):
		fmt.Fprintf(c.Stderr, "%s\n%s", wrongFlag.Text, usage)
		return statusUsage
	case errors.As(err, &wrongLevel):
		// etcd panics here, with status 2; supervisors know the first line.
		fmt.Fprintf(c.Stderr, "panic: %v\n\n", err)
		return statusUsage
	case errors.As(err, &wrongURL):
		fmt.Fprintln(c.Stderr, err)
		return statusFailed
	case errors.As(err, &shadowed):
		fatal(log, err.Error(), "environment-variable", shadowed.Variable)
		return statusFailed
	}
	log.Info("Running: ", "args", c.Args)
	log.Warn("failed to verify flags", "error", err)
	if errors.Is(err, embed.ErrUnsetAdvertiseClientURLs) {
		log.Warn("advertise client URLs are not set", "error", err)
	}
	return statusFailed
}

// serve starts the member and waits for its end.
func (c *Command) serve(ctx context.Context, log *slog.Logger, cfg *embed.Config) Exit {
	cfg.FollowName()
	if cfg.Dir == "" {
		cfg.Dir = cfg.DataDir()
		log.Warn("'data-dir' was empty; using default", "data-dir", cfg.Dir)
	}
	if err := announce(log, cfg.Dir); err != nil {
		return Exit{Status: statusFailed}
	}
	server, err := c.Start(ctx, cfg)
	if p := (*embed.PanicError)(nil); errors.As(err, &p) {
		// etcd panics here, with status 2; supervisors know the first line.
		fmt.Fprintf(c.Stderr, "panic: %s\n\n", p.Msg)
		return Exit{Status: statusPanic}
	}
	if err != nil {
		// The words are etcd's: whatever fails at start counts as discovery.
		fatal(log, "discovery failed", "error", err)
		return Exit{Status: statusFailed}
	}
	notifyInit(log)
	return c.wait(log, server)
}

// wait ends with the member, or stops it at the first signal.
func (c *Command) wait(log *slog.Logger, server Server) Exit {
	select {
	case sig := <-c.Signals:
		log.Info("received signal; shutting down", "signal", sig.String())
		server.Stop()
		return Exit{Signal: sig}
	case <-server.Done():
	}
	if err := server.Err(); err != nil {
		fatal(log, "listener failed", "error", err)
		return Exit{Status: statusFailed}
	}
	return Exit{Status: statusOK}
}

// fatal logs the line after which the command ends.
func fatal(log *slog.Logger, msg string, args ...any) {
	log.Log(context.Background(), logs.LevelFatal, msg, args...)
}
