package etcdcmd

import (
	"fmt"
	"strings"

	"github.com/steledb/stele/embed"
)

// usage is what a wrong command line is answered with.
const usage = `Usage:

  etcd [OPTIONS]
    Start a member.

  etcd --version
    Show the version.

  etcd -h | --help
    Show this text and every option.
`

// flagHelp lists every option of the table under its heading.
func flagHelp() string {
	var b strings.Builder
	for _, g := range embed.Groups() {
		fmt.Fprintf(&b, "\n%s:\n", g)
		for _, o := range embed.Options() {
			if o.Group == g {
				writeOption(&b, o)
			}
		}
	}
	return b.String()
}

func writeOption(b *strings.Builder, o embed.Option) {
	fmt.Fprintf(b, "  --%s %s\n", o.Name, shownDefault(o))
	fmt.Fprintf(b, "    \t%s\n", o.Help)
}

// shownDefault is the default as it would be typed, with the effective one
// where the flag's own says nothing.
func shownDefault(o embed.Option) string {
	text := "'" + o.Default + "'"
	if o.Effective != "" && o.Effective != o.Default {
		text += " (" + o.Effective + ")"
	}
	return text
}
