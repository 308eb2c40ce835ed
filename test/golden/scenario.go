package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// step is one line of a scenario.
type step struct {
	Meta *struct {
		Server       string            `json:"server"`
		Placeholders map[string]string `json:"placeholders"`
	} `json:"meta"`

	N         int               `json:"n"`
	Cmd       string            `json:"cmd"`
	Env       map[string]string `json:"env"`
	Stdin     *string           `json:"stdin"`
	Repeat    []any             `json:"stdin_repeat"` // [text, count]
	Exit      *int              `json:"exit"`
	KilledBy  string            `json:"killed_by"`
	Signal    string            `json:"signal"`
	During    []string          `json:"during"`
	Stdout    *string           `json:"stdout"`
	StdoutHex *string           `json:"stdout_hex"`
	FirstLine *string           `json:"stdout_first_line"`
	Stderr    *string           `json:"stderr"`
	Setup     string            `json:"setup"`
	Note      string            `json:"note"`
}

type scenario struct {
	name  string // "kv"
	meta  step
	steps []step
}

func readScenario(path string) (*scenario, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &scenario{name: strings.TrimSuffix(filepath.Base(path), ".jsonl")}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		var st step
		if err := json.Unmarshal(lines.Bytes(), &st); err != nil {
			// Some lines hold facts in other shapes; they are not commands.
			var any map[string]any
			if json.Unmarshal(lines.Bytes(), &any) != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, n, err)
			}
			continue
		}
		if st.Meta != nil {
			s.meta = st
			continue
		}
		s.steps = append(s.steps, st)
	}
	if s.meta.Meta == nil {
		return nil, fmt.Errorf("%s: no meta line", path)
	}
	return s, lines.Err()
}

var serverFlag = regexp.MustCompile(`--([a-z-]+) (\S+)`)

// serverFlags are the flags the scenario wants its server to have; the name is
// taken out.
func (s *scenario) serverFlags() (name string, flags []string) {
	name = "default"
	for _, m := range serverFlag.FindAllStringSubmatch(s.meta.Meta.Server, -1) {
		value := strings.TrimRight(m[2], ",;:")
		if m[1] == "name" {
			name = value
			continue
		}
		flags = append(flags, "--"+m[1], value)
	}
	return name, flags
}

// input is what goes to standard input; ok is false for none.
func (st *step) input() (text string, ok bool) {
	if len(st.Repeat) == 2 {
		unit, _ := st.Repeat[0].(string)
		count, _ := st.Repeat[1].(float64)
		return strings.Repeat(unit, int(count)), true
	}
	if st.Stdin == nil {
		return "", false
	}
	return *st.Stdin, true
}
