package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/steledb/stele/internal/client"
)

const rootName = "root" // the user and the role that may do everything

// call connects, calls and shows what result makes of the answer.
func call[R any](a *app, cmd *cobra.Command, fn func(context.Context, *client.Client) (R, error), show func(R) result) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := a.timeout()
	defer cancel()
	resp, err := fn(ctx, c)
	if err != nil {
		return err
	}
	return a.out.show(show(resp))
}

func (a *app) authCommand() *cobra.Command {
	noArgs := func(name string, fn func(cmd *cobra.Command) error) func(*cobra.Command, []string) {
		return a.run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return badArgs("auth %s command does not accept any arguments", name)
			}
			return fn(cmd)
		})
	}
	return group("auth <enable or disable>", "Enable or disable authentication",
		&cobra.Command{Use: "enable", Short: "Enables authentication", Run: noArgs("enable", a.authEnable)},
		&cobra.Command{Use: "disable", Short: "Disables authentication", Run: noArgs("disable", a.authDisable)},
		&cobra.Command{Use: "status", Short: "Returns authentication status", Run: noArgs("status", a.authStatus)},
	)
}

func (a *app) authEnable(cmd *cobra.Command) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := a.timeout()
	defer cancel()
	_, err = c.AuthEnable(ctx, &pb.AuthEnableRequest{})
	if errors.Is(err, rpctypes.ErrRootRoleNotExist) {
		if err = grantRoot(ctx, c); err == nil {
			_, err = c.AuthEnable(ctx, &pb.AuthEnableRequest{})
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "Authentication Enabled")
	return nil
}

// grantRoot gives the user root the role root, without which authentication
// would lock everybody out.
func grantRoot(ctx context.Context, c *client.Client) error {
	_, err := c.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: rootName})
	if err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
		return err
	}
	_, err = c.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: rootName, Role: rootName})
	return err
}

func (a *app) authDisable(cmd *cobra.Command) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := a.timeout()
	defer cancel()
	if _, err := c.AuthDisable(ctx, &pb.AuthDisableRequest{}); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "Authentication Disabled")
	return nil
}

func (a *app) authStatus(cmd *cobra.Command) error {
	return call(a, cmd,
		func(ctx context.Context, c *client.Client) (*pb.AuthStatusResponse, error) {
			return c.AuthStatus(ctx, &pb.AuthStatusRequest{})
		},
		func(resp *pb.AuthStatusResponse) result {
			return result{
				simple: func(p *printer) {
					p.line("Authentication Status: %t", resp.Enabled)
					p.line("AuthRevision: %d", resp.AuthRevision)
				},
				json: resp, proto: resp,
			}
		})
}

func (a *app) userCommand() *cobra.Command {
	return group("user <subcommand>", "User related commands",
		a.userAddCommand(), a.userDeleteCommand(), a.userGetCommand(), a.userListCommand(),
		a.userPasswdCommand(), a.userGrantRoleCommand(), a.userRevokeRoleCommand())
}

func (a *app) userAddCommand() *cobra.Command {
	var interactive, noPassword bool
	var password string
	cmd := &cobra.Command{Use: "add <user name or user:password> [options]", Short: "Adds a new user", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("user add command requires user name as its argument")
		}
		req := &pb.AuthUserAddRequest{Name: args[0], Password: password, Options: &authpb.UserAddOptions{NoPassword: noPassword}}
		if !noPassword && password == "" {
			if err := a.completeUser(req, args[0], interactive); err != nil {
				return err
			}
		}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthUserAddResponse, error) {
				return c.UserAdd(ctx, req)
			},
			func(resp *pb.AuthUserAddResponse) result { return done(resp, "User %s created", req.Name) })
	})}
	cmd.Flags().BoolVar(&interactive, "interactive", true, "Read password from stdin instead of interactive terminal")
	cmd.Flags().StringVar(&password, "new-user-password", "", "Supply password from the command line flag")
	cmd.Flags().BoolVar(&noPassword, "no-password", false, "Create a user without password (CN based auth only)")
	return cmd
}

// completeUser takes name and password from user:password, or asks.
func (a *app) completeUser(req *pb.AuthUserAddRequest, arg string, interactive bool) error {
	name, password, ok := strings.Cut(arg, ":")
	if ok {
		if name == "" {
			return badArgs("empty user name is not allowed")
		}
		req.Name, req.Password = name, password
		return nil
	}
	var err error
	req.Password, err = a.newPassword(arg, interactive)
	return err
}

func (a *app) userDeleteCommand() *cobra.Command {
	return &cobra.Command{Use: "delete <user name>", Short: "Deletes a user", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("user delete command requires user name as its argument")
		}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthUserDeleteResponse, error) {
				return c.UserDelete(ctx, &pb.AuthUserDeleteRequest{Name: args[0]})
			},
			func(resp *pb.AuthUserDeleteResponse) result { return done(resp, "User %s deleted", args[0]) })
	})}
}

func (a *app) userGetCommand() *cobra.Command {
	var detail bool
	cmd := &cobra.Command{Use: "get <user name> [options]", Short: "Gets detailed information of a user", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("user get command requires user name as its argument")
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := a.timeout()
		defer cancel()
		resp, err := c.UserGet(ctx, &pb.AuthUserGetRequest{Name: args[0]})
		if err != nil {
			return err
		}
		if detail {
			return a.showUserRoles(ctx, c, args[0], resp.Roles)
		}
		return a.out.show(result{
			simple: func(p *printer) {
				p.line("User: %s", args[0])
				p.line("%s", strings.Join(append([]string{"Roles:"}, resp.Roles...), " "))
			},
			json: resp, proto: resp,
		})
	})}
	cmd.Flags().BoolVar(&detail, "detail", false, "Show permissions of roles granted to the user")
	return cmd
}

// showUserRoles shows each role as `role get` would, under the user's name.
func (a *app) showUserRoles(ctx context.Context, c *client.Client, user string, roles []string) error {
	fmt.Fprintf(a.stdout, "User: %s\n", user)
	for _, role := range roles {
		fmt.Fprintln(a.stdout)
		resp, err := c.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: role})
		if err != nil {
			return err
		}
		if err := a.out.show(roleResult(role, resp)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) userListCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "Lists all users", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 0 {
			return badArgs("user list command requires no arguments")
		}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthUserListResponse, error) {
				return c.UserList(ctx, &pb.AuthUserListRequest{})
			},
			func(resp *pb.AuthUserListResponse) result {
				return result{simple: lines(resp.Users), json: resp, proto: resp}
			})
	})}
}

func lines(list []string) func(*printer) {
	return func(p *printer) {
		for _, s := range list {
			p.line("%s", s)
		}
	}
}

func (a *app) userPasswdCommand() *cobra.Command {
	var interactive bool
	cmd := &cobra.Command{Use: "passwd <user name> [options]", Short: "Changes password of user", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("user passwd command requires user name as its argument")
		}
		password, err := a.newPassword(args[0], interactive)
		if err != nil {
			return err
		}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthUserChangePasswordResponse, error) {
				return c.UserChangePassword(ctx, &pb.AuthUserChangePasswordRequest{Name: args[0], Password: password})
			},
			func(resp *pb.AuthUserChangePasswordResponse) result { return done(resp, "Password updated") })
	})}
	cmd.Flags().BoolVar(&interactive, "interactive", true, "If true, read password from stdin instead of interactive terminal")
	return cmd
}

func (a *app) userGrantRoleCommand() *cobra.Command {
	return &cobra.Command{Use: "grant-role <user name> <role name>", Short: "Grants a role to a user", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 2 {
			return badArgs("user grant command requires user name and role name as its argument")
		}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthUserGrantRoleResponse, error) {
				return c.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: args[0], Role: args[1]})
			},
			func(resp *pb.AuthUserGrantRoleResponse) result {
				return done(resp, "Role %s is granted to user %s", args[1], args[0])
			})
	})}
}

func (a *app) userRevokeRoleCommand() *cobra.Command {
	return &cobra.Command{Use: "revoke-role <user name> <role name>", Short: "Revokes a role from a user", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 2 {
			return badArgs("user revoke-role requires user name and role name as its argument")
		}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthUserRevokeRoleResponse, error) {
				return c.UserRevokeRole(ctx, &pb.AuthUserRevokeRoleRequest{Name: args[0], Role: args[1]})
			},
			func(resp *pb.AuthUserRevokeRoleResponse) result {
				return done(resp, "Role %s is revoked from user %s", args[1], args[0])
			})
	})}
}

func (a *app) roleCommand() *cobra.Command {
	return group("role <subcommand>", "Role related commands",
		a.roleAddCommand(), a.roleDeleteCommand(), a.roleGetCommand(), a.roleListCommand(),
		a.roleGrantCommand(), a.roleRevokeCommand())
}

func (a *app) roleAddCommand() *cobra.Command {
	return &cobra.Command{Use: "add <role name>", Short: "Adds a new role", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("role add command requires role name as its argument")
		}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthRoleAddResponse, error) {
				return c.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: args[0]})
			},
			func(resp *pb.AuthRoleAddResponse) result { return done(resp, "Role %s created", args[0]) })
	})}
}

func (a *app) roleDeleteCommand() *cobra.Command {
	return &cobra.Command{Use: "delete <role name>", Short: "Deletes a role", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("role delete command requires role name as its argument")
		}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthRoleDeleteResponse, error) {
				return c.RoleDelete(ctx, &pb.AuthRoleDeleteRequest{Role: args[0]})
			},
			func(resp *pb.AuthRoleDeleteResponse) result { return done(resp, "Role %s deleted", args[0]) })
	})}
}

func (a *app) roleGetCommand() *cobra.Command {
	return &cobra.Command{Use: "get <role name>", Short: "Gets detailed information of a role", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("role get command requires role name as its argument")
		}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthRoleGetResponse, error) {
				return c.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: args[0]})
			},
			func(resp *pb.AuthRoleGetResponse) result { return roleResult(args[0], resp) })
	})}
}

func roleResult(role string, resp *pb.AuthRoleGetResponse) result {
	return result{
		simple: func(p *printer) {
			p.line("Role %s", role)
			p.line("KV Read:")
			p.permissions(resp.Perm, authpb.Permission_READ)
			p.line("KV Write:")
			p.permissions(resp.Perm, authpb.Permission_WRITE)
		},
		fields: func(p *printer) {
			p.header(resp.Header)
			for _, perm := range resp.Perm {
				p.field("PermType", " "+perm.PermType.String())
				p.quoted("Key", perm.Key)
				p.quoted("RangeEnd", perm.RangeEnd)
			}
		},
		json: resp, proto: resp,
	}
}

// permissions lists what grants the right kind.
func (p *printer) permissions(perms []*authpb.Permission, kind authpb.Permission_Type) {
	for _, perm := range perms {
		if perm.PermType == kind || perm.PermType == authpb.Permission_READWRITE {
			p.line("\t%s", permissionSpan(perm.Key, perm.RangeEnd))
		}
	}
}

func permissionSpan(key, end []byte) string {
	text := rangeText(string(key), string(end))
	if len(end) > 0 && string(end) != "\x00" && isPrefixEnd(key, end) {
		text += fmt.Sprintf(" (prefix %s)", key)
	}
	return text
}

// rangeText is a key, or a range the way mathematicians write it.
func rangeText(key, end string) string {
	switch end {
	case "":
		return key
	case "\x00":
		return fmt.Sprintf("[%s, <open ended>", key)
	}
	return fmt.Sprintf("[%s, %s)", key, end)
}

func (a *app) roleListCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "Lists all roles", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 0 {
			return badArgs("role list command requires no arguments")
		}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthRoleListResponse, error) {
				return c.RoleList(ctx, &pb.AuthRoleListRequest{})
			},
			func(resp *pb.AuthRoleListResponse) result {
				return result{simple: lines(resp.Roles), fields: func(p *printer) { p.roleListFields(resp) }, json: resp, proto: resp}
			})
	})}
}

func (p *printer) roleListFields(resp *pb.AuthRoleListResponse) {
	p.header(resp.Header)
	fmt.Fprint(&p.buf, `"Roles" :`)
	for _, r := range resp.Roles {
		fmt.Fprintf(&p.buf, " %q", r)
	}
	p.line("")
}

// permFlags are the ways to write a range in role commands.
type permFlags struct{ prefix, fromKey bool }

func (f *permFlags) register(cmd *cobra.Command, prefixHelp, fromKeyHelp string) {
	cmd.Flags().BoolVar(&f.prefix, "prefix", false, prefixHelp)
	cmd.Flags().BoolVar(&f.fromKey, "from-key", false, fromKeyHelp)
}

// span reads <key> [endkey].
func (f permFlags) span(args []string) (key, end []byte, err error) {
	switch {
	case f.prefix && f.fromKey:
		return nil, nil, badArgs("--from-key and --prefix flags are mutually exclusive")
	case f.prefix && len(args) > 1:
		return nil, nil, badArgs("unexpected endkey argument with --prefix flag")
	case f.fromKey && len(args) > 1:
		return nil, nil, badArgs("unexpected endkey argument with --from-key flag")
	}
	key, end, err = spanFlags(f).span(args)
	if err == nil && len(key) == 0 {
		key = []byte{0} // the first key there can be
	}
	return key, end, err
}

func (a *app) roleGrantCommand() *cobra.Command {
	var f permFlags
	cmd := &cobra.Command{Use: "grant-permission [options] <role name> <permission type> <key> [endkey]", Short: "Grants a key to a role", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) < 3 {
			return badArgs("role grant command requires role name, permission type, and key [endkey] as its argument")
		}
		kind, ok := authpb.Permission_Type_value[strings.ToUpper(args[1])]
		if !ok {
			return badArgs("invalid permission type: %s", args[1])
		}
		key, end, err := f.span(args[2:])
		if err != nil {
			return err
		}
		perm := &authpb.Permission{PermType: authpb.Permission_Type(kind), Key: key, RangeEnd: end}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthRoleGrantPermissionResponse, error) {
				return c.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: args[0], Perm: perm})
			},
			func(resp *pb.AuthRoleGrantPermissionResponse) result { return done(resp, "Role %s updated", args[0]) })
	})}
	f.register(cmd, "grant a prefix permission", "grant a permission of keys that are greater than or equal to the given key using byte compare")
	return cmd
}

func (a *app) roleRevokeCommand() *cobra.Command {
	var f permFlags
	cmd := &cobra.Command{Use: "revoke-permission [options] <role name> <key> [endkey]", Short: "Revokes a key from a role", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) < 2 {
			return badArgs("role revoke-permission command requires role name and key [endkey] as its argument")
		}
		key, end, err := f.span(args[1:])
		if err != nil {
			return err
		}
		return call(a, cmd,
			func(ctx context.Context, c *client.Client) (*pb.AuthRoleRevokePermissionResponse, error) {
				return c.RoleRevokePermission(ctx, &pb.AuthRoleRevokePermissionRequest{Role: args[0], Key: key, RangeEnd: end})
			},
			func(resp *pb.AuthRoleRevokePermissionResponse) result {
				return done(resp, "Permission of %s is revoked from role %s", revokedText(args[1], string(end)), args[0])
			})
	})}
	f.register(cmd, "revoke a prefix permission", "revoke a permission of keys that are greater than or equal to the given key using byte compare")
	return cmd
}

// revokedText names the key as it was typed.
func revokedText(typed, end string) string {
	if end == "" {
		return "key " + typed
	}
	return "range " + rangeText(typed, end)
}
