package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// shapes are the placeholders that stand for anything of a certain form.
var shapes = map[string]string{
	"{DUR}":            `[0-9][0-9a-zµ.]*|now`,
	"{TIME}":           `[-0-9T:.Z+]+`,
	"{SIZE}":           `\d+`,
	"{HSIZE}":          `[0-9.]+ [kMGT]?B`,
	"{RAFTINDEX}":      `\d+`,
	"{TERM}":           `\d+`,
	"{TTL}":            `\d+`,
	"{PTR}":            `0x[0-9a-f]+`,
	"{EPHEMERAL}":      `\d+`,
	"{CALLER}":         `[^"\t]+`,
	"{STACK}":          `(?s:.*?)`,
	"{GO TRACE}":       `(?s:.*)`,
	"{USAGE TEXT}":     `(?s:.+?)`,
	"{DESCRIPTION}":    `(?s:.+?)`,
	"{FLAG HELP TEXT}": `(?s:.+?)`,
	"{SHA}":            `\S+`,
	"{GOVERSION}":      `\S+`,
	"{DNS}":            `\S+?`,
	"{CWD}":            `\S+?`,
}

var placeholder = regexp.MustCompile(`\{[A-Z][A-Z0-9_ ]*\}`)

// names are the identifiers chosen at run time: bound when first seen, equal
// from then on. {X} is the hexadecimal and {X_DEC} the decimal form of one
// value.
type names map[string]string

// chosen reports whether a placeholder of the recording stands for an
// identifier the server chose.
func chosen(ph string) bool {
	for _, p := range []string{"{LEASE", "{ID", "{NEW_", "{LEARNER"} {
		if strings.HasPrefix(ph, p) {
			return true
		}
	}
	return false
}

// fill replaces the placeholders of a command line by their values.
func (n names) fill(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(ph string) string {
		if v, ok := n[ph]; ok {
			return v
		}
		return ph
	})
}

// bind learns one identifier in all its forms.
func (n names) bind(ph, value string) {
	n[ph] = value
	base, isDec := strings.CutSuffix(strings.Trim(ph, "{}"), "_DEC")
	number := 16
	if isDec {
		number = 10
	}
	v, err := strconv.ParseUint(value, number, 64)
	if err != nil {
		return
	}
	n["{"+base+"}"] = fmt.Sprintf("%016x", v)
	n["{"+base+"_DEC}"] = strconv.FormatUint(v, 10)
	if isDec {
		n[ph] = value
	}
}

// pattern is what an expected text became: a regular expression, and the
// identifiers its groups bind.
type pattern struct {
	re     *regexp.Regexp
	groups []string
}

// compile turns an expected text into a pattern. Known identifiers are
// literal.
func (n names) compile(text string, loosen func(string) string) pattern {
	var p pattern
	var re strings.Builder
	re.WriteString(`^`)
	last := 0
	literal := func(s string) {
		q := regexp.QuoteMeta(s)
		if loosen != nil {
			q = loosen(q)
		}
		re.WriteString(q)
	}
	for _, at := range placeholder.FindAllStringIndex(text, -1) {
		literal(text[last:at[0]])
		ph := text[at[0]:at[1]]
		last = at[1]
		switch v, known := n[ph]; {
		case known:
			re.WriteString(regexp.QuoteMeta(v))
		case shapes[ph] != "":
			re.WriteString(`(?:` + shapes[ph] + `)`)
		case chosen(ph):
			re.WriteString(`([0-9a-f]+)`)
			p.groups = append(p.groups, ph)
		default:
			re.WriteString(regexp.QuoteMeta(ph))
		}
	}
	literal(text[last:])
	re.WriteString(`$`)
	p.re = regexp.MustCompile(re.String())
	return p
}

// match compares and, if equal, learns the identifiers.
func (n names) match(p pattern, got string) bool {
	m := p.re.FindStringSubmatch(got)
	if m == nil {
		return false
	}
	seen := names{}
	for i, ph := range p.groups {
		if v, ok := seen[ph]; ok && v != m[i+1] {
			return false
		}
		seen[ph] = m[i+1]
	}
	for ph, v := range seen {
		n.bind(ph, v)
	}
	return true
}

var (
	rule   = regexp.MustCompile(`─+`)
	spaces = regexp.MustCompile(` {2,}`)
	grpc   = regexp.MustCompile(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?s:.*)`)
	stty   = regexp.MustCompile(`(?m)^stty: .*\n`)
	alarm  = regexp.MustCompile(`(memberID:\S+) +alarm:`)
)

// normal removes what may differ between equal outputs: the widths of tables,
// which follow the unforeseeable; a space the recorder lost; gRPC's own log of --debug; what stty says
// about a standard input that is no terminal; and the random spacing of
// protobuf's text form.
func normal(text string) string {
	text = grpc.ReplaceAllString(text, "")
	text = stty.ReplaceAllString(text, "")
	text = alarm.ReplaceAllString(text, "$1 alarm:")
	text = took.ReplaceAllString(text, `"took":"`)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "│") || strings.HasPrefix(l, "┌") || strings.HasPrefix(l, "├") || strings.HasPrefix(l, "└") {
			lines[i] = spaces.ReplaceAllString(rule.ReplaceAllString(l, "─"), " ")
		}
	}
	return strings.Join(lines, "\n")
}

var (
	digest   = regexp.MustCompile(`\\\[\d+(?: \d+)+\\\]`)
	percent  = regexp.MustCompile(`\d+%`)
	integers = regexp.MustCompile(`(, |│ )\d+\b`)
	revision = regexp.MustCompile(`(Revision" : |\\\|)\d+`)
	took     = regexp.MustCompile(`"took": "`)
	dbSize   = regexp.MustCompile(`(current-db-size-bytes(?:-diff)?": )-?\d+`)
	fileSize = regexp.MustCompile(`("totalSize":|"Size" : )\d+`)
	fileHash = regexp.MustCompile(`\b71c0bbf3\b|\b1908456435\b`)
)

// grownRevision is what the quota scenario's revisions hang on: how many puts
// fit into the file before it is full, which is the engine's own affair.
var grownRevision = regexp.MustCompile(`("revision":|"Revision" : )(?:40|201)\b`)

// loosener is how the literal text of a command's output is relaxed where the
// record holds values of that one run.
func loosener(cmd string) func(string) string {
	return func(q string) string {
		q = digest.ReplaceAllString(q, `\[\d+(?: \d+)+\]`)
		q = grownRevision.ReplaceAllString(q, `$1\d+`)
		if strings.Contains(cmd, "endpoint status") {
			q = percent.ReplaceAllString(q, `\d+%`)
			if !strings.Contains(cmd, "json") && !strings.Contains(cmd, "fields") {
				q = integers.ReplaceAllString(q, `$1\d+`)
			}
		}
		if strings.Contains(cmd, "snapshot status") {
			q = fileHash.ReplaceAllString(q, `[0-9a-f]+`)
			q = fileSize.ReplaceAllString(q, `$1\d+`)
		}
		if strings.Contains(cmd, "defrag ") {
			q = dbSize.ReplaceAllString(q, `$1-?\d+`)
		}
		if strings.Contains(cmd, "lock ") || strings.Contains(cmd, "elect ") {
			q = revision.ReplaceAllString(q, `$1\d+`) // steps that need a second client are left out
		}
		return q
	}
}
