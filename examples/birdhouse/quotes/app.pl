#!/usr/bin/perl
# Quotes: a saying about birds. HTTP with the Perl that every Debian has, a process for each
# connection. An answer is one write; SIGTERM lets the request in flight finish.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use POSIX qw(WNOHANG);
use Socket qw(IPPROTO_TCP TCP_NODELAY);

my $RELEASE = $ENV{VOLERY_RELEASE} // "unknown";
my @QUOTES  = (
    "A bird in the hand is worth two in the bush.",
    "One swallow does not make a summer.",
    "The early bird catches the worm.",
    "Fine feathers make fine birds.",
);
my $MOMENT   = 0.1;    # seconds after which a sleeper looks whether it should stop
my $stopping = 0;
my %children;

sub quote { return $QUOTES[ $_[0] % @QUOTES ] }

# Status line and body for a request line.
sub respond {
    my ($line, $count) = @_;
    return ("400 Bad Request", "what?\n") unless $line =~ m{^(\S+) (/\S*) HTTP/1\.[01]$};
    my ($method, $path) = ($1, $2);
    $path =~ s/\?.*//;
    return ("405 Method Not Allowed", "only GET\n") unless $method =~ /^(GET|HEAD)$/;
    return ("200 OK", "ready\n")              if $path eq "/healthz";
    return ("200 OK", quote($count) . "\n")   if $path eq "/quote" || $path eq "/";
    return ("404 Not Found", "no such page: $path\n");
}

# One whole message: head and body in one string.
sub message {
    my ($status, $body, $keep, $without_body) = @_;
    return join("\r\n",
        "HTTP/1.1 $status",
        "content-type: text/plain; charset=utf-8",
        "content-length: " . length($body),
        "x-release: $RELEASE",
        "connection: " . ($keep ? "keep-alive" : "close"),
        "", $without_body ? "" : $body);
}

# The head of the next request, or nothing at the end, or when asked to stop while idle.
sub next_head {
    my ($client, $buffer) = @_;
    my $waiting = IO::Select->new($client);
    while (length($$buffer) < 65536) {
        return $1 if $$buffer =~ s/^(.*?)\r?\n\r?\n//s;
        if ($waiting->can_read($MOMENT)) {
            my $got = sysread($client, $$buffer, 16384, length $$buffer);
            return unless $got;
        } elsif ($stopping && $$buffer eq "") {
            return;
        }
    }
    return;
}

sub converse {
    my ($client) = @_;
    my ($buffer, $count) = ("", $$);
    while (defined(my $head = next_head($client, \$buffer))) {
        my ($line) = split /\r?\n/, $head;
        my $keep = $head !~ /^connection:\s*close/im && $line !~ m{HTTP/1\.0$} && !$stopping;
        $keep = 0 if $head =~ /^(content-length|transfer-encoding):/im;    # a body nobody reads
        my ($status, $body) = respond($line, $count++);
        syswrite($client, message($status, $body, $keep, $line =~ /^HEAD /));
        last unless $keep;
    }
    shutdown($client, 1);
}

sub main {
    $SIG{PIPE} = "IGNORE";
    my $server = IO::Socket::INET->new(
        LocalAddr => $ENV{HOST} // "127.0.0.1",
        LocalPort => $ENV{PORT},
        Listen    => 256,
        ReuseAddr => 1,
    ) or die "cannot listen on port $ENV{PORT}: $@\n";
    $SIG{TERM} = sub { $stopping = 1; kill TERM => keys %children };
    $SIG{CHLD} = sub {
        local ($!, $?);
        while ((my $pid = waitpid(-1, WNOHANG)) > 0) { delete $children{$pid} }
    };
    $| = 1;
    print "$RELEASE listens on port $ENV{PORT}\n";
    my $waiting = IO::Select->new($server);
    until ($stopping) {
        next unless $waiting->can_read($MOMENT);
        my $client = $server->accept or next;
        setsockopt($client, IPPROTO_TCP, TCP_NODELAY, 1);
        my $pid = fork // next;
        if ($pid) { $children{$pid} = 1; next }
        close $server;
        %children = ();
        $SIG{CHLD} = "DEFAULT";
        converse($client);
        exit 0;
    }
    close $server;
    select(undef, undef, undef, $MOMENT) while kill 0 => keys %children;
    print "$RELEASE has finished\n";
}

main() unless caller;
1;
