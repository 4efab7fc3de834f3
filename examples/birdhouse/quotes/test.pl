use strict;
use warnings;

require "./app.pl";

my $wrong = 0;

sub is {
    my ($got, $wanted, $what) = @_;
    return if $got eq $wanted;
    print STDERR "$what: got '$got', wanted '$wanted'\n";
    $wrong++;
}

is((respond("GET /healthz HTTP/1.1", 0))[0], "200 OK", "health");
is((respond("GET /quote?x HTTP/1.1", 1))[1], "One swallow does not make a summer.\n", "a quote");
is((respond("GET /quote HTTP/1.1", 5))[1], (respond("GET / HTTP/1.1", 1))[1], "quotes repeat");
is((respond("GET /cage HTTP/1.1", 0))[0], "404 Not Found", "unknown page");
is((respond("POST /quote HTTP/1.1", 0))[0], "405 Method Not Allowed", "POST");
is((respond("hello", 0))[0], "400 Bad Request", "nonsense");
is(message("200 OK", "hi", 1, 0) =~ /content-length: 2\r\n.*\r\n\r\nhi$/s, 1, "a message");
exit($wrong ? 1 : 0);
