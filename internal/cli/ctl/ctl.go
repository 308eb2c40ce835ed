package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/steledb/stele/internal/client"
)

// IO is the world as the command sees it. Tests give it buffers.
type IO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Environ        []string // "NAME=value"
}

// Main runs etcdctl with args (without the command's own name) and returns its
// exit code.
func Main(args []string, std IO) int {
	a := &app{in: bufio.NewReader(std.Stdin), stdin: std.Stdin, stdout: std.Stdout, stderr: std.Stderr, environ: std.Environ}
	root := a.rootCommand()
	root.SetArgs(args)
	// What cobra says by itself goes to standard error; help that was asked for
	// is output.
	root.SetOut(std.Stderr)
	root.SetErr(std.Stderr)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { a.help(cmd) })
	if err := root.Execute(); err != nil {
		return exitFailure // cobra has printed it, with the usage
	}
	if a.client != nil {
		a.client.Close()
	}
	var e *exitError
	if a.err != nil && (!errors.As(a.err, &e) || e.err != nil) {
		fmt.Fprintln(a.stderr, "Error:", a.err)
	}
	return codeOf(a.err)
}

// app is one run of the command.
type app struct {
	in             *bufio.Reader // over stdin; the prompts of one run share it
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string

	flags  globalFlags
	out    *printer       // set when a command starts
	client *client.Client // set by connect
	err    error          // the command's outcome
}

// env returns a variable's value, "" when it is not set.
func (a *app) env(name string) string {
	for _, kv := range a.environ {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

// run adapts a command function to cobra: environment and output format are in
// place when it starts, and its error ends the run without cobra's usage text.
func (a *app) run(fn func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) {
	return func(cmd *cobra.Command, args []string) {
		if a.err = a.prepare(cmd); a.err == nil {
			a.err = fn(cmd, args)
		}
	}
}

func (a *app) prepare(cmd *cobra.Command) error {
	if err := a.applyEnvironment(cmd); err != nil {
		return err
	}
	if a.flags.debug {
		a.printSettings(cmd)
		logGRPC(a.stderr)
	}
	var err error
	a.out, err = newPrinter(a.stdout, a.flags.writeOut, a.flags.hex)
	return err
}

// timeout is the context of an ordinary command.
func (a *app) timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), a.flags.commandTimeout)
}

// timeoutIfAsked is the context of a command that may take as long as it
// takes, unless the user has said otherwise.
func (a *app) timeoutIfAsked(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	if cmd.Flags().Changed("command-timeout") {
		return a.timeout()
	}
	return context.WithCancel(context.Background())
}

func (a *app) rootCommand() *cobra.Command {
	cobra.EnablePrefixMatching = true
	root := &cobra.Command{
		Use:        "etcdctl",
		Short:      "A simple command line client for etcd3.",
		SuggestFor: []string{"etcdctl"},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	a.flags.register(root.PersistentFlags())
	root.AddCommand(
		a.getCommand(), a.putCommand(), a.delCommand(), a.txnCommand(), a.compactionCommand(),
		a.watchCommand(), a.leaseCommand(), a.memberCommand(), a.endpointCommand(),
		a.alarmCommand(), a.defragCommand(), a.moveLeaderCommand(), a.snapshotCommand(), a.downgradeCommand(),
		a.authCommand(), a.userCommand(), a.roleCommand(),
		a.lockCommand(), a.electCommand(), a.makeMirrorCommand(), a.checkCommand(),
		a.versionCommand(), a.completionCommand(), a.optionsCommand(),
	)
	return root
}

// help describes a command: what it does, then how it is used.
func (a *app) help(cmd *cobra.Command) {
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	fmt.Fprintf(a.stdout, "%s\n\n%s", strings.TrimSpace(text), cmd.UsageString())
}

// group is a command that only has commands below it.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	c.AddCommand(subs...)
	return c
}

// System is the IO of the process itself.
func System() IO {
	return IO{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ()}
}
