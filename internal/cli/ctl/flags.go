package ctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/steledb/stele/internal/base/logs"
	"github.com/steledb/stele/internal/cli/flagval"
)

const (
	envPrefix = "ETCDCTL_"

	// watchEnvPrefix covers ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END, which
	// belong to the watch command and to no flag.
	watchEnvPrefix = "ETCDCTL_WATCH_"
)

// globalFlags are the flags of every command.
type globalFlags struct {
	endpoints []string
	debug     bool
	writeOut  string
	hex       bool

	dialTimeout      time.Duration
	commandTimeout   time.Duration
	keepAliveTime    time.Duration
	keepAliveTimeout time.Duration
	maxRequestBytes  int
	maxRecvBytes     int

	insecureTransport  bool
	insecureSkipVerify bool
	insecureDiscovery  bool
	cert, key, caCert  string

	jwtToken       string
	user, password string

	discoverySRV, discoverySRVName string
}

// register declares the flags. They are hidden from the help of each command;
// `etcdctl options` shows them.
func (g *globalFlags) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&g.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "gRPC endpoints")
	fs.BoolVar(&g.debug, "debug", false, "enable client-side debug logging")
	fs.StringVarP(&g.writeOut, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
	fs.BoolVar(&g.hex, "hex", false, "print byte strings as hex encoded strings")
	flagval.Duration(fs, &g.dialTimeout, "dial-timeout", 2*time.Second, "dial timeout for client connections")
	flagval.Duration(fs, &g.commandTimeout, "command-timeout", 5*time.Second, "timeout for short running command (excluding dial timeout)")
	flagval.Duration(fs, &g.keepAliveTime, "keepalive-time", 2*time.Second, "keepalive time for client connections")
	flagval.Duration(fs, &g.keepAliveTimeout, "keepalive-timeout", 6*time.Second, "keepalive timeout for client connections")
	flagval.Int(fs, &g.maxRequestBytes, "max-request-bytes", 0, "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)")
	flagval.Int(fs, &g.maxRecvBytes, "max-recv-bytes", 0, `client-side response receive limit in bytes (if 0, it defaults to "math.MaxInt32")`)
	fs.BoolVar(&g.insecureTransport, "insecure-transport", true, "disable transport security for client connections")
	fs.BoolVar(&g.insecureDiscovery, "insecure-discovery", true, "accept insecure SRV records describing cluster endpoints")
	fs.BoolVar(&g.insecureSkipVerify, "insecure-skip-tls-verify", false, "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)")
	fs.StringVar(&g.cert, "cert", "", "identify secure client using this TLS certificate file")
	fs.StringVar(&g.key, "key", "", "identify secure client using this TLS key file")
	fs.StringVar(&g.caCert, "cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle")
	fs.StringVar(&g.jwtToken, "auth-jwt-token", "", "JWT token used for authentication (if this option is used, --user and --password should not be set)")
	fs.StringVar(&g.user, "user", "", "username[:password] for authentication (prompt if password is not supplied)")
	fs.StringVar(&g.password, "password", "", "password for authentication (if this option is used, --user option shouldn't include password)")
	fs.StringVarP(&g.discoverySRV, "discovery-srv", "d", "", "domain name to query for SRV records describing cluster endpoints")
	fs.StringVar(&g.discoverySRVName, "discovery-srv-name", "", "service name to query when using DNS discovery")
	fs.VisitAll(func(f *pflag.Flag) { f.Hidden = true })
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// applyEnvironment sets the flags that were not given on the command line from
// their variables. A flag given both ways ends the command: one of the two is
// not what the user believes to be in force.
func (a *app) applyEnvironment(cmd *cobra.Command) error {
	log := a.logger("")
	flags := map[string]*pflag.Flag{}
	cmd.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) { flags[envName(f.Name)] = f })

	var unknown []string
	for _, kv := range a.environ {
		name, value, _ := strings.Cut(kv, "=")
		f := flags[name]
		switch {
		case !strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, watchEnvPrefix):
		case f == nil:
			unknown = append(unknown, kv)
		case value == "":
		case f.Changed:
			logFatal(log, "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))",
				"environment-variable", name)
			return quiet(exitFailure)
		default:
			if err := f.Value.Set(value); err != nil {
				logFatal(log, "failed to set flag from environment variable", "environment-variable", name,
					"error", fmt.Errorf("invalid value %q: %w", value, err))
				return quiet(exitFailure)
			}
			f.Changed = true
		}
	}
	slices.Sort(unknown)
	for _, kv := range unknown {
		log.Warn("unrecognized environment variable", "environment-variable", kv)
	}
	return nil
}

// printSettings shows all global settings the way they would be given in the
// environment.
func (a *app) printSettings(cmd *cobra.Command) {
	cmd.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			fmt.Fprintf(a.stderr, "%s=%s\n", envName(f.Name), f.Value)
		}
	})
}

// checkCertFlags refuses flags given with nothing in them, typically from an
// unset shell variable: falling back to plain text would be a bad surprise.
func checkCertFlags(fs *pflag.FlagSet) error {
	for _, name := range []string{"cert", "key", "cacert"} {
		if f := fs.Lookup(name); f.Changed && f.Value.String() == "" {
			return badArgs("empty string is passed to --%s option", name)
		}
	}
	return nil
}

// logger writes zap-like JSON lines to standard error. name may be empty.
func (a *app) logger(name string) *slog.Logger {
	l := slog.New(logs.NewHandler(a.stderr, slog.LevelInfo, logs.JSON))
	if name == "" {
		return l
	}
	return logs.Named(l, name)
}

func logFatal(l *slog.Logger, msg string, args ...any) {
	l.Log(context.Background(), logs.LevelFatal, msg, args...)
}

var errNoSRV = errors.New("no SRV records found")
