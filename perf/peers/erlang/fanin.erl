%% SPDX-License-Identifier: MIT
%%
%% fanin-erlang: the fan-in in Erlang: each connection has a process that owns it, and P processes send it their messages. The owner
%% takes what is in its mailbox, puts the length before each message, and gives all of it to gen_tcp:send/2 as one iolist when the
%% mailbox is empty, or when 64 KiB have come together. RabbitMQ's writer does it so.
%%
%% A mailbox has no bound, so there are credits, as many as RabbitMQ's credit_flow has: a producer may be 400 sends ahead on a
%% connection, and with every 200th it asks the owner for an acknowledgement, which comes when that has been sent. Without credit a
%% producer waits; with --refuse it drops the message.
%%
%% The owner puts the length there, not the producer: a payload of 64 bytes is copied from heap to heap, one byte more makes it a
%% binary that is counted, which carried a third less for 1.7 times the CPU. Several messages that are sent together (--batch) are
%% frames in one binary; as a list they carried 0.4 times as much. Tried without gain: off-heap mailboxes, a larger heap, a high
%% priority, larger buffers of the driver, one binary in place of the iolist. The emulator runs with +sbwt none, as
%% RabbitMQ's does: schedulers that look for work before they sleep cost three times the CPU at a fixed rate and gain nothing.
%%
%% Options and figures are those of `weir-perf fanin`. Erlang's timers count milliseconds, so with --rate a producer wakes up that
%% often at most, and sends what has become due.
-module(fanin).
-export([main/0]).

-define(CREDIT, 400).
-define(ASK_EVERY, 200).
-define(GATHERED_BYTES, 65536).
-define(TIMED_EVERY, 64). % sends, when there is no rate
-define(TAIL_MS, 30). % the sink's interval ends that much later at most
-define(CONNECT_MS, 10000).
-define(APART, 16). % counters: two cache lines, so that nobody writes to another's

%% Both in one atomics array.
-define(STOPPING, 1).
-define(MEASURING, 2).

-record(plan, {
    host, port, producers = 16, connections = 1, bytes = 64, batch = 1, rate = 0, latency = false, refuse = false, seconds = 1.0,
    warmup = 0.3
}).

-record(producer, {number, owners, batch, bytes, filler, refuse, timed, interval, flags, accepted, slot}).

-record(owner, {main, socket, head, sends, slot}).

%% --- the connections ---

own(Main, #plan{host = Host, port = Port, bytes = Bytes, producers = Producers}, Sends, Slot) ->
    Options = [binary, {packet, raw}, {nodelay, true}, {active, once}],
    case gen_tcp:connect(Host, Port, Options, ?CONNECT_MS) of
        {ok, Socket} ->
            Main ! {connected, self()},
            rest(#owner{main = Main, socket = Socket, head = <<Bytes:32/little>>, sends = Sends, slot = Slot}, Producers);
        {error, Reason} ->
            die("connect", Reason)
    end.

%% Nothing is gathered; `Left` producers have not finished.
rest(Owner, 0) ->
    finish(Owner);
rest(Owner = #owner{head = Head}, Left) ->
    receive
        {message, Payload} -> gather(Owner, Left, [Head | Payload], byte_size(Payload), []);
        {message, Payload, From} -> gather(Owner, Left, [Head | Payload], byte_size(Payload), [From]);
        {batch, Frames} -> gather(Owner, Left, Frames, byte_size(Frames), []);
        {batch, Frames, From} -> gather(Owner, Left, Frames, byte_size(Frames), [From]);
        finished -> rest(Owner, Left - 1);
        {tcp_closed, _} -> die("the sink", closed);
        {tcp_error, _, Reason} -> die("the sink", Reason)
    end.

gather(Owner = #owner{head = Head}, Left, Gathered, Bytes, Askers) when Bytes < ?GATHERED_BYTES ->
    receive
        {message, Payload} -> gather(Owner, Left, [Gathered, Head | Payload], Bytes + byte_size(Payload), Askers);
        {message, Payload, From} -> gather(Owner, Left, [Gathered, Head | Payload], Bytes + byte_size(Payload), [From | Askers]);
        {batch, Frames} -> gather(Owner, Left, [Gathered | Frames], Bytes + byte_size(Frames), Askers);
        {batch, Frames, From} -> gather(Owner, Left, [Gathered | Frames], Bytes + byte_size(Frames), [From | Askers]);
        finished -> gather(Owner, Left - 1, Gathered, Bytes, Askers)
    after 0 -> write(Owner, Left, Gathered, Askers)
    end;
gather(Owner, Left, Gathered, _, Askers) ->
    write(Owner, Left, Gathered, Askers).

write(Owner = #owner{socket = Socket, sends = Sends, slot = Slot}, Left, Gathered, Askers) ->
    case gen_tcp:send(Socket, Gathered) of
        ok -> ok;
        {error, Reason} -> die("send", Reason)
    end,
    counters:add(Sends, Slot, 1),
    [Asker ! {sent, self()} || Asker <- Askers],
    rest(Owner, Left).

%% Everything is out: ends the connection, and waits until the sink has done so too.
finish(#owner{main = Main, socket = Socket}) ->
    case gen_tcp:shutdown(Socket, write) of
        ok -> ok;
        {error, Problem} -> die("shutdown", Problem)
    end,
    receive
        {tcp_closed, Socket} -> ok;
        {tcp_error, Socket, Reason} -> die("the sink", Reason)
    end,
    Main ! {ended, self()}.

%% --- the producers ---

produce(Main, Producer = #producer{number = Number, owners = Owners, interval = Interval}, Producers) ->
    [put(Owner, ?CREDIT) || Owner <- tuple_to_list(Owners)],
    Began = receive {go, At} -> At end,
    {Refusals, Calls} = send(Producer, 1, 0, 0, 0, Began + Interval * Number div Producers, []),
    [Owner ! finished || Owner <- tuple_to_list(Owners)],
    Main ! {produced, self(), Refusals, Calls}.

send(Producer, Next, Sequence, Refusals, Countdown, Due, Calls) ->
    #producer{owners = Owners, batch = Batch, refuse = Refuse, flags = Flags, accepted = Accepted, slot = Slot} = Producer,
    case atomics:get(Flags, ?STOPPING) of
        1 ->
            {Refusals, Calls};
        0 ->
            {Stamp, Countdown1, Due1} = pace(Producer, Countdown, Due),
            Accepts = offer(element(Next, Owners), Refuse, message(Producer, Sequence, Stamp)),
            Calls1 = timed(Flags, Stamp, Calls),
            Refusals1 =
                case Accepts of
                    true ->
                        counters:add(Accepted, Slot, Batch),
                        Refusals;
                    false ->
                        erlang:yield(), % or an owner would wait for its turn until each producer has used up its own
                        Refusals + Batch
                end,
            send(Producer, Next rem tuple_size(Owners) + 1, Sequence + Batch, Refusals1, Countdown1, Due1, Calls1)
    end.

%% Spends a credit, if there is one.
offer(Owner, Refuse, Message) ->
    case get(Owner) of
        0 ->
            credit(Owner, Refuse) andalso offer(Owner, Refuse, Message);
        Credit ->
            put(Owner, Credit - 1),
            case (Credit - 1) rem ?ASK_EVERY of
                0 -> Owner ! erlang:append_element(Message, self());
                _ -> Owner ! Message
            end,
            true
    end.

%% Takes in what has been acknowledged until the owner is among it; false: it is not.
credit(Owner, Refuse) ->
    Wait = case Refuse of true -> 0; false -> infinity end,
    receive
        {sent, From} ->
            put(From, get(From) + ?ASK_EVERY),
            From =:= Owner orelse credit(Owner, Refuse)
    after Wait -> false
    end.

message(#producer{batch = 1, number = Number, filler = Filler}, Sequence, Stamp) ->
    {message, <<Number:32/little, Sequence:64/little, Stamp:64/little, Filler/binary>>};
message(#producer{batch = Batch, number = Number, bytes = Bytes, filler = Filler}, Sequence, Stamp) ->
    Sequences = lists:seq(Sequence, Sequence + Batch - 1),
    {batch, << <<Bytes:32/little, Number:32/little, S:64/little, Stamp:64/little, Filler/binary>> || S <- Sequences>>}.

%% When the send that comes now was begun (0: it is not timed), after how many the next is timed, when the next is due.
pace(#producer{timed = false}, _, Due) ->
    {0, 0, Due};
pace(#producer{interval = 0}, 0, Due) ->
    {now_ns(), ?TIMED_EVERY - 1, Due};
pace(#producer{interval = 0}, Countdown, Due) ->
    {0, Countdown - 1, Due};
pace(#producer{interval = Interval}, _, Due) ->
    Left = Due - now_ns(),
    if
        Left > 0 -> timer:sleep((Left + 999999) div 1000000);
        true -> ok
    end,
    {now_ns(), 0, Due + Interval}.

timed(_, 0, Calls) ->
    Calls;
timed(Flags, Stamp, Calls) ->
    case atomics:get(Flags, ?MEASURING) of
        1 -> [now_ns() - Stamp | Calls];
        0 -> Calls
    end.

%% --- the run ---

%% CLOCK_MONOTONIC: what the performance counter is on Linux.
now_ns() ->
    os:perf_counter(nanosecond).

slot(Number) ->
    ?APART * Number.

slots(Count) ->
    counters:new(slot(Count + 1), []).

sum(Counters, Count) ->
    lists:sum([counters:get(Counters, slot(I)) || I <- lists:seq(1, Count)]).

take(#plan{producers = Producers, connections = Connections}, Accepted, Sends) ->
    {CpuMs, _} = erlang:statistics(runtime),
    {now_ns(), CpuMs, sum(Accepted, Producers), sum(Sends, Connections)}.

start_owner(Plan, Sends, Number) ->
    Main = self(),
    Owner = spawn_link(fun() -> own(Main, Plan, Sends, slot(Number)) end),
    receive
        {connected, Owner} -> Owner
    end.

start_producer(Plan, Owners, Flags, Accepted, Number) ->
    #plan{producers = Producers, bytes = Bytes, batch = Batch, rate = Rate, latency = Latency, refuse = Refuse} = Plan,
    Main = self(),
    Producer = #producer{
        number = Number,
        owners = list_to_tuple(Owners),
        batch = Batch,
        bytes = Bytes,
        filler = list_to_binary([$a + At rem 26 || At <- lists:seq(24, 3 + Bytes)]),
        refuse = Refuse,
        timed = Latency orelse Rate > 0,
        interval = case Rate of 0 -> 0; _ -> 1000000000 * Batch * Producers div Rate end,
        flags = Flags,
        accepted = Accepted,
        slot = slot(Number + 1)
    },
    spawn_link(fun() -> produce(Main, Producer, Producers) end).

run(Plan = #plan{producers = Producers, connections = Connections, warmup = Warmup, seconds = Seconds}) ->
    Sends = slots(Connections),
    Accepted = slots(Producers),
    Flags = atomics:new(2, []),
    Owners = [start_owner(Plan, Sends, Number) || Number <- lists:seq(1, Connections)],
    Started = [start_producer(Plan, Owners, Flags, Accepted, Number) || Number <- lists:seq(0, Producers - 1)],
    Began = now_ns(),
    [Producer ! {go, Began} || Producer <- Started],
    timer:sleep(round(Warmup * 1000)),
    From = take(Plan, Accepted, Sends),
    atomics:put(Flags, ?MEASURING, 1),
    timer:sleep(round(Seconds * 1000)),
    atomics:put(Flags, ?MEASURING, 0),
    Until = take(Plan, Accepted, Sends),
    timer:sleep(?TAIL_MS),
    atomics:put(Flags, ?STOPPING, 1),
    Ends = [receive {produced, Producer, Refusals, Calls} -> {Refusals, Calls} end || Producer <- Started],
    [receive {ended, Owner} -> ok end || Owner <- Owners],
    report(Plan, From, Until, sum(Accepted, Producers), Ends).

%% --- figures ---

report(Plan, {FromNs, FromCpu, FromMessages, FromSends}, {UntilNs, UntilCpu, UntilMessages, UntilSends}, Total, Ends) ->
    #plan{producers = Producers, connections = Connections, bytes = Bytes, batch = Batch, rate = Rate, refuse = Refuse} = Plan,
    Messages = UntilMessages - FromMessages,
    {Refusals, Calls} = lists:unzip(Ends),
    Sorted = list_to_tuple(lists:sort(lists:append(Calls))),
    Fields = [
        {tool, "\"fanin\""},
        {side, "\"erlang\""},
        {way, "\"process\""},
        {producers, number(Producers)},
        {connections, number(Connections)},
        {bytes, number(Bytes)},
        {batch, number(Batch)},
        {rate, number(Rate)},
        {seconds, ratio(UntilNs - FromNs, 1.0e9)},
        {messages, number(Messages)},
        {messages_per_second, ratio(Messages * 1.0e9, UntilNs - FromNs)},
        {messages_total, number(Total)},
        {cpu_ns_per_message, ratio((UntilCpu - FromCpu) * 1.0e6, Messages)},
        {mean_batch, ratio(Messages, UntilSends - FromSends)},
        {send_p50_us, percentile(Sorted, 50)},
        {send_p99_us, percentile(Sorted, 99)},
        {send_max_us, percentile(Sorted, 100)},
        {refusals, number(lists:sum(Refusals))},
        {refuses, atom_to_list(Refuse)}
    ],
    io:format("{~s}~n", [lists:join(",", [["\"", atom_to_list(Name), "\":", Text] || {Name, Text} <- Fields])]).

number(Whole) ->
    integer_to_list(Whole).

ratio(_, 0) ->
    "null";
ratio(A, B) ->
    io_lib:format("~.6f", [A / B]).

percentile({}, _) ->
    "null";
percentile(Sorted, Percent) ->
    ratio(element(1 + Percent * (tuple_size(Sorted) - 1) div 100, Sorted), 1000).

%% --- options ---

die(What, Reason) ->
    quit(1, io_lib:format("~s: ~p", [What, Reason])).

-spec quit(1 | 2, iodata()) -> no_return().
quit(Code, Sentence) ->
    io:format(standard_error, "fanin-erlang: ~s~n", [Sentence]),
    halt(Code).

parse(["--json" | More], Plan) ->
    parse(More, Plan);
parse(["--latency" | More], Plan) ->
    parse(More, Plan#plan{latency = true});
parse(["--refuse" | More], Plan) ->
    parse(More, Plan#plan{refuse = true});
parse([Option, Text | More], Plan) ->
    parse(More, option(Option, Text, Plan));
parse([], Plan = #plan{host = Host}) when Host =/= undefined ->
    Plan;
parse([], _) ->
    quit(2, "--connect wants the sink's address, tcp://host:port (weir-perf sink prints it)");
parse([Option], _) ->
    quit(2, ["'", Option, "' is not an option, or wants a value"]).

option("--connect", Text, Plan) ->
    case re:run(Text, "^tcp://(.+):([0-9]{1,5})$", [{capture, all_but_first, list}]) of
        {match, [Host, Port]} -> Plan#plan{host = Host, port = list_to_integer(Port)};
        nomatch -> quit(2, ["--connect wants tcp://host:port, not '", Text, "'"])
    end;
option("--producers" = Option, Text, Plan) ->
    Plan#plan{producers = whole(Option, Text, 1, 1024)};
option("--connections" = Option, Text, Plan) ->
    Plan#plan{connections = whole(Option, Text, 1, 60000)};
option("--bytes" = Option, Text, Plan) ->
    Plan#plan{bytes = whole(Option, Text, 20, 4096)};
option("--batch" = Option, Text, Plan) ->
    Plan#plan{batch = whole(Option, Text, 1, 1024)};
option("--rate" = Option, Text, Plan) ->
    Plan#plan{rate = whole(Option, Text, 0, 100000000)};
option("--seconds" = Option, Text, Plan) ->
    Plan#plan{seconds = seconds(Option, Text, 0.01)};
option("--warmup" = Option, Text, Plan) ->
    Plan#plan{warmup = seconds(Option, Text, 0)};
option("--way", "process", Plan) ->
    Plan;
option("--way", Text, _) ->
    quit(2, ["--way can only be process here, not '", Text, "'"]);
option(Option, _, _) ->
    quit(2, ["'", Option, "' is not an option"]).

whole(Option, Text, Least, Most) ->
    case string:to_integer(Text) of
        {Number, []} when Number >= Least, Number =< Most -> Number;
        _ -> quit(2, io_lib:format("~s wants ~b to ~b, not '~s'", [Option, Least, Most, Text]))
    end.

seconds(Option, Text, Least) ->
    Number =
        case string:to_float(Text) of
            {error, _} -> string:to_integer(Text);
            Float -> Float
        end,
    case Number of
        {Value, []} when Value >= Least, Value =< 3600 -> Value;
        _ -> quit(2, [Option, " wants a time in seconds, not '", Text, "'"])
    end.

main() ->
    os:set_signal(sigterm, default),
    run(parse(init:get_plain_arguments(), #plan{})),
    halt(0).
