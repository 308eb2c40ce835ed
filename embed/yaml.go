package embed

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// FromYAML reads a config file and validates it. Keys that no option has are
// ignored, as etcd ignores them; durations are integers, in nanoseconds.
func FromYAML(text []byte) (*Config, error) {
	doc, err := yamlToJSON(text)
	if err != nil {
		return nil, err
	}
	c := NewConfig()
	if err := c.readDocument(doc); err != nil {
		return nil, err
	}
	c.settleFile()
	return c, c.Validate()
}

func yamlToJSON(text []byte) ([]byte, error) {
	doc, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, fmt.Errorf("error converting YAML to JSON: %w", err)
	}
	return doc, nil
}

// settleFile applies the rules that hold for files only.
func (c *Config) settleFile() {
	discovers := c.DNSCluster != "" || len(c.Discovery.Endpoints) > 0
	if discovers && c.InitialCluster == defaultInitialCluster {
		c.InitialCluster = ""
	}
	if c.ClusterState == "" {
		c.ClusterState = StateNew
	}
	if c.SelfSignedCertValidity == 0 {
		c.SelfSignedCertValidity = 1
	}
	c.V2Deprecation = V2WriteOnly
}

// section is a place in the file that holds keys instead of a value. The file
// shows its type's name in error texts, which are etcd's.
type section struct {
	path   string // dotted, empty for the file itself
	holder string // type that error texts call it
	parent string // how error texts call the path to it
}

var sections = []section{
	{"", "configYAML", ""},
	{"client-transport-security", "securityConfig", "configJSON"},
	{"peer-transport-security", "securityConfig", "configJSON"},
	{"discovery-config", "DiscoveryConfig", "Config"},
	{"discovery-config.client", "ConfigSpec", "Config"},
	{"discovery-config.client.secure", "SecureConfig", "Config"},
	{"discovery-config.client.auth", "AuthConfig", "Config"},
	{"socket-options", "SocketOpts", "Config"},
}

// sectionTypes are the full names of the sections' types.
var sectionTypes = map[string]string{
	"securityConfig":  "embed.securityConfig",
	"DiscoveryConfig": "v3discovery.DiscoveryConfig",
	"ConfigSpec":      "clientv3.ConfigSpec",
	"SecureConfig":    "clientv3.SecureConfig",
	"AuthConfig":      "clientv3.AuthConfig",
	"SocketOpts":      "transport.SocketOpts",
}

// isTextKey says that the file writes the option as one text, whatever its
// type: it is parsed like a flag.
func isTextKey(o Option) bool {
	switch o.Kind {
	case KindURLs, KindFeatureGates:
		return true
	}
	return o.Name == "host-whitelist"
}

// owner is the part of the file's type that error texts say holds a key.
func owner(o Option) string {
	if strings.Contains(o.YAML, "transport-security.") || (isTextKey(o) && o.Name != "listen-metrics-urls") {
		return "configJSON"
	}
	return "Config"
}

// readDocument stores every value of the file. The first mistake in the order
// of the file's sorted keys is returned.
func (c *Config) readDocument(doc []byte) error {
	values := map[string]json.RawMessage{}
	for _, s := range sections {
		if err := readSection(values, s, doc); err != nil {
			return err
		}
	}
	rows := slices.Clone(table)
	slices.SortFunc(rows, func(a, b Option) int { return strings.Compare(a.YAML, b.YAML) })
	for _, o := range rows {
		raw, ok := values[o.YAML]
		if !ok || o.YAML == "" {
			continue
		}
		if err := c.readValue(o, raw); err != nil {
			return err
		}
		c.markSet(o.Name)
	}
	return nil
}

// readSection adds the entries of one section under their dotted, lower-case names.
func readSection(into map[string]json.RawMessage, s section, doc []byte) error {
	raw, ok := into[s.path]
	if s.path == "" {
		raw, ok = doc, true
	}
	if !ok {
		return nil
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		return sectionError(s, err)
	}
	for key, value := range entries {
		path := strings.ToLower(key) // encoding/json does not mind case either
		if s.path != "" {
			path = s.path + "." + path
		}
		into[path] = value
	}
	return nil
}

func sectionError(s section, err error) error {
	var mistyped *json.UnmarshalTypeError
	if !errors.As(err, &mistyped) {
		return jsonError(err)
	}
	if s.path == "" {
		return jsonError(fmt.Errorf("json: cannot unmarshal %s into Go value of type embed.configYAML", mistyped.Value))
	}
	return jsonError(fmt.Errorf("json: cannot unmarshal %s into Go struct field %s.%s.%s of type %s",
		mistyped.Value, holderOf(s.path), s.parent, s.path, sectionTypes[s.holder]))
}

// holderOf is the type that holds the key at a dotted path.
func holderOf(path string) string {
	outer := ""
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		outer = path[:i]
	}
	for _, s := range sections {
		if s.path == outer {
			return s.holder
		}
	}
	return ""
}

func (c *Config) readValue(o Option, raw json.RawMessage) error {
	if isTextKey(o) {
		return c.readText(o, raw)
	}
	place := o.at(c)
	if list, ok := place.(*uniqueStrings); ok { // the file keeps the order given
		place = (*[]string)(list)
	}
	return placeError(o, json.Unmarshal(raw, place))
}

func (c *Config) readText(o Option, raw json.RawMessage) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return placeError(o, err)
	}
	if text == "" { // keeps the default
		return nil
	}
	err := valueFor(o, c).Set(text)
	if err != nil && o.Kind == KindURLs {
		return &FileURLError{Key: o.YAML, Err: err}
	}
	return err
}

// FileURLError says that a list of URLs in the file is wrong.
type FileURLError struct {
	Key string
	Err error
}

func (e *FileURLError) Error() string {
	return fmt.Sprintf("unexpected error setting up %s: %v", e.Key, e.Err)
}

func (e *FileURLError) Unwrap() error { return e.Err }

// placeError adds to a type error where in the file it is, in the words of
// encoding/json about etcd's own types.
func placeError(o Option, err error) error {
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) {
		mistyped.Struct = holderOf(o.YAML)
		mistyped.Field = owner(o) + "." + o.YAML
	}
	return jsonError(err)
}

func jsonError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("error unmarshaling JSON: while decoding JSON: %w", err)
}
