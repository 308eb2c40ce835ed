package ctl

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apiversion "go.etcd.io/etcd/api/v3/version"

	"github.com/steledb/stele/internal/base/version"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Prints the version of etcdctl", Run: func(*cobra.Command, []string) {
		fmt.Fprintln(a.stdout, "etcdctl version:", version.Etcd)
		fmt.Fprintln(a.stdout, "API version:", apiversion.APIVersion)
	}}
}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion [bash|zsh|fish|powershell]", Short: "Generate completion script",
		Long: `Prints a script that completes etcdctl's commands and flags.

For the current shell:  source <(etcdctl completion bash)
To keep it, put the output where the shell looks for completions.`,
		DisableFlagsInUseLine: true,
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		Run: func(cmd *cobra.Command, args []string) {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				a.err = root.GenBashCompletion(a.stdout)
			case "zsh":
				a.err = root.GenZshCompletion(a.stdout)
			case "fish":
				a.err = root.GenFishCompletion(a.stdout, true)
			case "powershell":
				a.err = root.GenPowerShellCompletionWithDesc(a.stdout)
			}
		},
	}
}

func (a *app) optionsCommand() *cobra.Command {
	return &cobra.Command{Use: "options", Short: "Show the global command-line flags", Run: func(*cobra.Command, []string) {
		// A second set, because those of the root are hidden.
		var g globalFlags
		fs := pflag.NewFlagSet("options", pflag.ContinueOnError)
		g.register(fs)
		fs.VisitAll(func(f *pflag.Flag) { f.Hidden = false })
		fmt.Fprintf(a.stdout, "The following options can be passed to any command:\n\n%s", fs.FlagUsages())
	}}
}
