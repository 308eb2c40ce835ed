package embed

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/steledb/stele/internal/base/logs"
)

// Input is where a command takes its settings from.
type Input struct {
	Args []string // without the program's name
	Env  []string // as os.Environ gives it
	// ReadFile reads the config file.
	ReadFile func(path string) ([]byte, error)
	// Early takes what is to be said before the configured log is open; nil
	// for the default log.
	Early *slog.Logger
}

// Requests that end the command without a server.
var (
	ErrHelp    = errors.New("help requested")
	ErrVersion = errors.New("version requested")
)

// FlagError is a mistake on the command line itself: shown with the usage
// text, exit status 2.
type FlagError struct{ Text string }

func (e *FlagError) Error() string { return e.Text }

// ShadowedError says that an option is given by flag and by variable. Which of
// the two was meant cannot be known, so the command refuses.
type ShadowedError struct{ Variable string }

func (e *ShadowedError) Error() string {
	return "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))"
}

// Parse finds the settings of a member and validates them.
//
// A config file, named by flag or variable, is the only source if there is
// one. Otherwise flags come first, variables fill in what no flag said, and
// defaults the rest. The returned Config is useful for its Log even when there
// is an error, unless it is nil.
func Parse(in Input) (*Config, error) {
	if in.Early == nil {
		in.Early = logs.Default().Logger
	}
	c := NewConfig()
	fs := c.flagSet()
	if err := parseFlags(fs, in.Args); err != nil {
		return nil, err
	}
	if c.printVersion {
		return nil, ErrVersion
	}
	if c.configFile == "" {
		c.configFile = envValue(in.Env, envPrefix+"CONFIG_FILE")
	}
	if c.configFile != "" {
		return parseFromFile(in, c.configFile)
	}
	return c, c.fromFlags(in, fs)
}

// flagSet declares every option of the table as a flag that writes into c.
func (c *Config) flagSet() *flag.FlagSet {
	fs := flag.NewFlagSet("etcd", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the command prints
	for _, o := range table {
		fs.Var(valueFor(o, c), o.Name, o.Help)
	}
	return fs
}

func parseFlags(fs *flag.FlagSet, args []string) error {
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return ErrHelp
	case err != nil:
		return &FlagError{Text: err.Error()}
	case fs.NArg() > 0:
		return fmt.Errorf("%q is not a valid flag", fs.Arg(0))
	}
	return nil
}

func (c *Config) fromFlags(in Input, fs *flag.FlagSet) error {
	if err := setFromEnv(in, fs); err != nil {
		return err
	}
	fs.Visit(func(f *flag.Flag) { c.markSet(f.Name) })
	c.dropImpliedDefaults()
	if c.discoveryFallback == "proxy" {
		return errors.New(`v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy"`)
	}
	err := c.Validate()
	if c.log != nil {
		c.warnDeprecated()
	}
	return err
}

// dropImpliedDefaults takes back defaults that other settings contradict.
func (c *Config) dropImpliedDefaults() {
	if c.WasSet("listen-client-urls") && !c.WasSet("advertise-client-urls") {
		c.AdvertiseClientUrls = nil
	}
	discovers := c.DNSCluster != "" || c.DNSClusterServiceName != "" || len(c.Discovery.Endpoints) > 0
	if discovers && !c.WasSet("initial-cluster") {
		c.InitialCluster = ""
	}
	c.V2Deprecation = V2WriteOnly
}

// warnDeprecated tells about settings that will go away.
func (c *Config) warnDeprecated() {
	for _, o := range table {
		if o.Deprecated != "" && c.WasSet(o.Name) {
			c.Log().Warn(o.Deprecated)
		}
	}
}

// setFromEnv gives every flag that was not on the command line the value of
// its variable, then looks for variables that mean nothing or too much.
func setFromEnv(in Input, fs *flag.FlagSet) error {
	env, onCommandLine := envToFlags(in), flagsSet(fs)
	used := map[string]bool{}
	var failure error
	for _, o := range table {
		value := envValue(env, o.Env())
		if value == "" || onCommandLine[o.Env()] {
			continue
		}
		used[o.Env()] = true
		if err := fs.Set(o.Name, value); err != nil {
			failure = fmt.Errorf("invalid value %q for %s: %w", value, o.Env(), err)
			continue
		}
		in.Early.Info("recognized and used environment variable", "variable-name", o.Env(), "variable-value", o.redacted(value))
	}
	if err := checkEnv(in.Early, env, used, onCommandLine); err != nil {
		return err
	}
	return failure
}

// envToFlags leaves out the one variable that must not act as a flag:
// ETCD_VERSION is common in container images.
func envToFlags(in Input) []string {
	const special = envPrefix + "VERSION"
	value := envValue(in.Env, special)
	if value == "" {
		return in.Env
	}
	in.Early.Warn("cannot set special environment variable", "key", special, "value", value)
	return slices.DeleteFunc(slices.Clone(in.Env), func(entry string) bool {
		return strings.HasPrefix(entry, special+"=")
	})
}

func checkEnv(log *slog.Logger, env []string, used, onCommandLine map[string]bool) error {
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case used[name]:
		case onCommandLine[name]:
			return &ShadowedError{Variable: name}
		case strings.HasPrefix(entry, envPrefix):
			log.Warn("unrecognized environment variable", "environment-variable", entry)
		}
	}
	return nil
}

// flagsSet is the set of variables whose flags were on the command line.
func flagsSet(fs *flag.FlagSet) map[string]bool {
	set := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { set[Option{Name: f.Name}.Env()] = true })
	return set
}

// envValue returns the last value of a variable, as a process would see it.
func envValue(env []string, name string) string {
	value := ""
	for _, entry := range env {
		if have, v, ok := strings.Cut(entry, "="); ok && have == name {
			value = v
		}
	}
	return value
}

func parseFromFile(in Input, path string) (*Config, error) {
	text, err := in.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := FromYAML(text)
	if err != nil {
		return nil, err
	}
	c.configFile = path
	c.Log().Info("loaded server configuration, other configuration command line flags and environment variables will be ignored if provided", "path", path)
	c.warnDeprecated()
	return c, nil
}
