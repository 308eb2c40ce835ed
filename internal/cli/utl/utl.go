package utl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apiversion "go.etcd.io/etcd/api/v3/version"

	"github.com/steledb/stele/internal/base/logs"
	"github.com/steledb/stele/internal/base/version"
	"github.com/steledb/stele/internal/cli/flagval"
	"github.com/steledb/stele/internal/cli/table"
)

// Exit codes, as etcdutl's users know them.
const (
	exitFailure    = 1
	exitBadFeature = 4
	exitBadArgs    = 128
)

// exitError ends the command with a code other than exitFailure.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func badArgs(format string, args ...any) error {
	return &exitError{exitBadArgs, fmt.Errorf(format, args...)}
}

func badFeature(format string, args ...any) error {
	return &exitError{exitBadFeature, fmt.Errorf(format, args...)}
}

// IO is where the command writes. Tests give it buffers.
type IO struct{ Stdout, Stderr io.Writer }

// System is the IO of the process itself.
func System() IO { return IO{os.Stdout, os.Stderr} }

// Main runs etcdutl with args (without the command's own name) and returns its
// exit code.
func Main(args []string, std IO) int {
	u := &util{IO: std, log: slog.New(logs.NewHandler(std.Stderr, slog.LevelInfo, logs.Console))}
	root := u.rootCommand()
	root.SetArgs(args)
	if err := root.Execute(); err != nil {
		fmt.Fprintln(std.Stderr, "Error:", err) // a second time, after cobra's usage
		return exitFailure
	}
	if u.err == nil {
		return 0
	}
	fmt.Fprintln(std.Stderr, "Error:", u.err)
	var e *exitError
	if errors.As(u.err, &e) {
		return e.code
	}
	return exitFailure
}

// util is one run of the command.
type util struct {
	IO
	log *slog.Logger

	writeOut    string
	lockTimeout time.Duration // for a file that another process has open
	err         error         // the command's outcome
}

func (u *util) rootCommand() *cobra.Command {
	cobra.EnablePrefixMatching = true
	root := &cobra.Command{Use: "etcdutl", Short: "An administrative command line tool for etcd3.", SuggestFor: []string{"etcdutl"}}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(u.Stderr)
	root.SetErr(u.Stderr)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		text := cmd.Long
		if text == "" {
			text = cmd.Short
		}
		fmt.Fprintf(u.Stdout, "%s\n\n%s", strings.TrimSpace(text), cmd.UsageString())
	})
	fs := root.PersistentFlags()
	fs.StringVarP(&u.writeOut, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table). Note json and protobuf are not supported for all commands")
	flagval.Duration(fs, &u.lockTimeout, "timeout", 10*time.Second, "time to wait for the file lock of a process that has the database open")
	root.AddCommand(u.snapshotCommand(), u.hashKVCommand(), u.defragCommand(), u.migrateCommand(), u.versionCommand(), u.completionCommand())
	return root
}

// run adapts a command function to cobra.
func (u *util) run(fn func(args []string) error) func(*cobra.Command, []string) {
	return func(_ *cobra.Command, args []string) {
		switch u.writeOut {
		case "simple", "json", "fields", "table", "protobuf":
			u.err = fn(args)
		default:
			u.err = badFeature("unsupported output format")
		}
	}
}

// report is a result of named values, and how it looks.
type report struct {
	json   any
	names  []string // of the fields format
	values []any
	header []string // of the table
	cells  []string // of the table, and with commas of the simple form
}

func (u *util) show(r report) error {
	switch u.writeOut {
	case "json":
		text, err := json.Marshal(r.json)
		if err == nil {
			_, err = fmt.Fprintf(u.Stdout, "%s\n", text)
		}
		return err
	case "fields":
		for i, name := range r.names {
			fmt.Fprintf(u.Stdout, "%q : %v\n", name, r.values[i])
		}
		return nil
	case "table":
		return table.Write(u.Stdout, r.header, [][]string{r.cells})
	case "simple":
		_, err := fmt.Fprintln(u.Stdout, strings.Join(r.cells, ", "))
		return err
	}
	return badFeature("%s not supported as output format", u.writeOut)
}

func (u *util) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Prints the version of etcdutl", Run: func(*cobra.Command, []string) {
		fmt.Fprintln(u.Stdout, "etcdutl version:", version.Etcd)
		fmt.Fprintln(u.Stdout, "API version:", apiversion.APIVersion)
	}}
}

func (u *util) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion [bash|zsh|fish|powershell]", Short: "Generate completion script",
		Long:                  "Prints a script that completes etcdutl's commands and flags in a shell.",
		DisableFlagsInUseLine: true,
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		Run: func(cmd *cobra.Command, args []string) {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				u.err = root.GenBashCompletion(u.Stdout)
			case "zsh":
				u.err = root.GenZshCompletion(u.Stdout)
			case "fish":
				u.err = root.GenFishCompletion(u.Stdout, true)
			case "powershell":
				u.err = root.GenPowerShellCompletionWithDesc(u.Stdout)
			}
		},
	}
}
