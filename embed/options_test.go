package embed

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// readTSV returns the rows of a reference table by column name, or skips.
func readTSV(t *testing.T, path string) []map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Skip("no reference tables beside this checkout")
	}
	defer f.Close()
	var header []string
	var rows []map[string]string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if strings.HasPrefix(sc.Text(), "#") {
			continue
		}
		cells := strings.Split(sc.Text(), "\t")
		if header == nil {
			header = cells
			continue
		}
		row := map[string]string{}
		for i, name := range header {
			if i < len(cells) {
				row[name] = cells[i]
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// Every flag of etcd is in the table, with its type, default, effective
// default, variable and key; nothing else is.
func TestTableEqualsReference(t *testing.T) {
	rows := readTSV(t, "../../shared/reference/flags.tsv")
	var known []string
	for _, row := range rows {
		name := row["name"]
		known = append(known, name)
		o, ok := lookup(name)
		if !ok {
			t.Errorf("%s: missing", name)
			continue
		}
		for column, have := range map[string]string{
			"type": string(o.Kind), "default": o.Default, "effective": o.Effective, "env": o.Env(), "yaml_key": o.YAML,
		} {
			if have != row[column] {
				t.Errorf("%s: %s is %q, want %q", name, column, have, row[column])
			}
		}
	}
	for _, o := range Options() {
		if !slices.Contains(known, o.Name) {
			t.Errorf("%s: not an option of etcd", o.Name)
		}
	}
}

func TestFeaturesEqualReference(t *testing.T) {
	rows := readTSV(t, "../../shared/reference/feature-gates.tsv")
	if len(rows) != len(Features()) {
		t.Errorf("%d features, want %d", len(Features()), len(rows))
	}
	for _, row := range rows {
		f, _ := featureInfo(Feature(row["name"]))
		if f.Stage != row["stage"] || (row["default"] == "true") != f.Default {
			t.Errorf("%+v, want %v", f, row)
		}
	}
}

// The table is sorted, each row is whole, and its place in the Config has the
// kind it claims.
func TestTableIsSound(t *testing.T) {
	places := map[any]string{}
	c := NewConfig()
	for i, o := range table {
		if i > 0 && table[i-1].Name >= o.Name {
			t.Errorf("%s is out of order", o.Name)
		}
		if o.IsIgnored() != (o.at == nil) {
			t.Errorf("%s: an ignored flag has no place, any other has", o.Name)
		}
		if o.IsIgnored() {
			continue
		}
		if o.Help == "" || o.Group == "" || !slices.Contains(groupOrder, o.Group) {
			t.Errorf("%s: help or group is missing", o.Name)
		}
		if other := places[o.at(c)]; other != "" {
			t.Errorf("%s and %s share a place", o.Name, other)
		}
		places[o.at(c)] = o.Name
	}
}

// Each option, set to something else by flag, by variable and by file, ends up
// the same in the Config.
func TestThreeSourcesAgree(t *testing.T) {
	for _, o := range table {
		text, doc := sample(o)
		if o.IsIgnored() || o.YAML == "" || text == "" {
			continue
		}
		byFlag, byEnv := NewConfig(), NewConfig()
		if err := valueFor(o, byFlag).Set(text); err != nil {
			t.Fatalf("%s: %v", o.Name, err)
		}
		fs := byEnv.flagSet()
		in := Input{Env: []string{o.Env() + "=" + text}, Early: quiet()}
		if err := setFromEnv(in, fs); err != nil {
			t.Fatalf("%s: %v", o.Name, err)
		}
		byFile := NewConfig()
		nested := nest(o.YAML, doc)
		if err := byFile.readDocument(nested); err != nil {
			t.Fatalf("%s: %s: %v", o.Name, nested, err)
		}
		want := valueFor(o, byFlag).String()
		if want == valueFor(o, NewConfig()).String() {
			t.Errorf("%s: the sample %q is the default", o.Name, text)
		}
		if have := valueFor(o, byEnv).String(); have != want {
			t.Errorf("%s: by variable %q, by flag %q", o.Name, have, want)
		}
		if have := valueFor(o, byFile).String(); have != want {
			t.Errorf("%s: by file %q, by flag %q", o.Name, have, want)
		}
		if !byFile.WasSet(o.Name) {
			t.Errorf("%s: the file did not mark it", o.Name)
		}
	}
}

// sample is a value that is not the default, for the command line and the file.
func sample(o Option) (text string, doc any) {
	switch o.Kind {
	case KindBool:
		on := o.Default != "true"
		return map[bool]string{true: "true", false: "false"}[on], on
	case KindInt, KindInt64, KindUint, KindUint32, KindUint64:
		return "7", 7
	case KindDuration:
		return "7s", int64(7 * time.Second)
	case KindEnum:
		return o.Values[1], o.Values[1]
	case KindURLs:
		return "http://127.0.0.1:7,https://h:8", "http://127.0.0.1:7,https://h:8"
	case KindFeatureGates:
		return "LeaseCheckpoint=true", "LeaseCheckpoint=true"
	case KindStrings, KindUniqueStrings:
		if o.Name == "host-whitelist" {
			return "a,b", "a,b"
		}
		return "a,b", []string{"a", "b"}
	}
	return "other", "other"
}

// nest wraps a value in objects along a dotted path.
func nest(path string, value any) []byte {
	parts := strings.Split(path, ".")
	slices.Reverse(parts)
	for _, p := range parts {
		value = map[string]any{p: value}
	}
	doc, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return doc
}
