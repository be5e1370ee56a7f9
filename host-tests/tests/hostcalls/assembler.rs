//! Makes a module of a guest.

use portcullis_host::Callback;
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, ImportSection, InstructionSink, MemArg,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};

use crate::guest::{Guest, Number, Op, serialize};

/// The guest as a module.
pub(crate) fn assemble(guest: &Guest) -> Vec<u8> {
    Builder::new(guest).build()
}

/// Where a guest's memory holds what.
const OUT: i32 = 16; // pointer, length and number that host calls return
const LINE: i32 = 1024; // the log line that is being put together
const TEXT: i32 = 16_384; // constants
const HEAP: i32 = 1 << 20;
const PAGES: u64 = 64;

/// Globals, by their index.
const CURSOR: u32 = 0;
const HEAP_TOP: u32 = 1;
const CAS: u32 = 2;
const TOKEN: u32 = 3;
const SAVED_CONTEXT: u32 = 4;
const STATUS: u32 = 5;
const FIRST_COUNTER: u32 = 6;

type Signature = (&'static [ValType], bool);

const I: ValType = ValType::I32;
const L: ValType = ValType::I64;

/// The host functions that guests use.
const IMPORTS: &[(&str, &str, Signature)] = &[
    ("env", "proxy_log", (&[I; 3], true)),
    ("env", "proxy_get_header_map_value", (&[I; 5], true)),
    ("env", "proxy_add_header_map_value", (&[I; 5], true)),
    ("env", "proxy_replace_header_map_value", (&[I; 5], true)),
    ("env", "proxy_remove_header_map_value", (&[I; 3], true)),
    ("env", "proxy_get_header_map_pairs", (&[I; 3], true)),
    ("env", "proxy_set_header_map_pairs", (&[I; 3], true)),
    ("env", "proxy_get_header_map_size", (&[I; 2], true)),
    ("env", "proxy_get_buffer_bytes", (&[I; 5], true)),
    ("env", "proxy_set_buffer_bytes", (&[I; 5], true)),
    ("env", "proxy_get_buffer_status", (&[I; 3], true)),
    ("env", "proxy_get_property", (&[I; 4], true)),
    ("env", "proxy_set_property", (&[I; 4], true)),
    ("env", "proxy_get_shared_data", (&[I; 5], true)),
    ("env", "proxy_set_shared_data", (&[I; 5], true)),
    ("env", "proxy_register_shared_queue", (&[I; 3], true)),
    ("env", "proxy_resolve_shared_queue", (&[I; 5], true)),
    ("env", "proxy_enqueue_shared_queue", (&[I; 3], true)),
    ("env", "proxy_dequeue_shared_queue", (&[I; 3], true)),
    ("env", "proxy_define_metric", (&[I; 4], true)),
    ("env", "proxy_increment_metric", (&[I, L], true)),
    ("env", "proxy_record_metric", (&[I, L], true)),
    ("env", "proxy_get_metric", (&[I; 2], true)),
    ("env", "proxy_http_call", (&[I; 10], true)),
    ("env", "proxy_grpc_call", (&[I; 12], true)),
    ("env", "proxy_grpc_stream", (&[I; 9], true)),
    ("env", "proxy_grpc_send", (&[I; 4], true)),
    ("env", "proxy_grpc_cancel", (&[I; 1], true)),
    ("env", "proxy_grpc_close", (&[I; 1], true)),
    ("env", "proxy_get_status", (&[I; 3], true)),
    ("env", "proxy_send_local_response", (&[I; 8], true)),
    ("env", "proxy_continue_stream", (&[I; 1], true)),
    ("env", "proxy_close_stream", (&[I; 1], true)),
    ("env", "proxy_set_effective_context", (&[I; 1], true)),
    ("env", "proxy_done", (&[], true)),
    ("env", "proxy_set_tick_period_milliseconds", (&[I; 1], true)),
    ("env", "proxy_get_current_time_nanoseconds", (&[I; 1], true)),
    ("env", "proxy_get_log_level", (&[I; 1], true)),
    ("env", "proxy_call_foreign_function", (&[I; 6], true)),
    (
        "wasi_snapshot_preview1",
        "clock_time_get",
        (&[I, L, I], true),
    ),
    ("wasi_snapshot_preview1", "random_get", (&[I; 2], true)),
    (
        "wasi_snapshot_preview1",
        "environ_sizes_get",
        (&[I; 2], true),
    ),
    ("wasi_snapshot_preview1", "environ_get", (&[I; 2], true)),
    ("wasi_snapshot_preview1", "fd_write", (&[I; 4], true)),
    ("wasi_snapshot_preview1", "proc_exit", (&[I; 1], false)),
];

/// Number of arguments of each callback, and its default answer if it has one.
fn shape(callback: Callback) -> (u32, Option<u32>) {
    match callback {
        Callback::Initialize | Callback::Start => (0, None),
        Callback::Tick | Callback::Log | Callback::Delete => (1, None),
        Callback::Done => (1, Some(1)),
        Callback::ContextCreate | Callback::QueueReady => (2, None),
        Callback::VmStart | Callback::Configure => (2, Some(1)),
        Callback::RequestTrailers | Callback::ResponseTrailers => (2, Some(0)),
        Callback::RequestHeaders
        | Callback::RequestBody
        | Callback::ResponseHeaders
        | Callback::ResponseBody => (3, Some(0)),
        Callback::HttpCallResponse => (5, None),
        _ => (3, None),
    }
}

struct Builder<'a> {
    guest: &'a Guest,
    types: TypeSection,
    type_count: u32,
    functions: FunctionSection,
    exports: ExportSection,
    code: CodeSection,
    text: Vec<u8>,
    counters: u32,
    next_function: u32,
}

/// Helper functions, by their position behind the imports.
const ADD_TEXT: u32 = 0;
const ADD_NUMBER: u32 = 1;
const FLUSH: u32 = 2;
const RECURSE: u32 = 3;

impl<'a> Builder<'a> {
    fn new(guest: &'a Guest) -> Self {
        let imports = IMPORTS.len() + guest.imports.len();
        Self {
            guest,
            types: TypeSection::new(),
            type_count: 0,
            functions: FunctionSection::new(),
            exports: ExportSection::new(),
            code: CodeSection::new(),
            text: Vec::new(),
            counters: 0,
            next_function: u32::try_from(imports).unwrap(),
        }
    }

    fn build(mut self) -> Vec<u8> {
        let mut imports = ImportSection::new();
        for (module, name, (parameters, answers)) in IMPORTS {
            let ty = self.ty(parameters, *answers);
            imports.import(module, name, EntityType::Function(ty));
        }
        for (module, name) in &self.guest.imports {
            let ty = self.ty(&[], false);
            imports.import(module, name, EntityType::Function(ty));
        }
        self.helpers();
        self.allocator();
        let ty = self.ty(&[], false);
        let mut mark = Function::new([]);
        mark.instructions().end();
        self.define("proxy_abi_version_0_2_1", ty, &mark);
        for &callback in Callback::ALL {
            if callback != Callback::Start {
                self.callback(callback);
            }
        }
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: PAGES,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        if !self.guest.without.contains(&"memory") {
            self.exports.export("memory", ExportKind::Memory, 0);
        }
        let mut globals = GlobalSection::new();
        for start in [LINE, HEAP]
            .into_iter()
            .chain((CAS..FIRST_COUNTER + self.counters).map(|_| 0))
        {
            let ty = GlobalType {
                val_type: I,
                mutable: true,
                shared: false,
            };
            globals.global(ty, &ConstExpr::i32_const(start));
        }
        let mut data = DataSection::new();
        data.active(0, &ConstExpr::i32_const(TEXT), self.text.iter().copied());
        let mut module = Module::new();
        module
            .section(&self.types)
            .section(&imports)
            .section(&self.functions)
            .section(&memories)
            .section(&globals)
            .section(&self.exports)
            .section(&self.code)
            .section(&data);
        module.finish()
    }

    fn ty(&mut self, parameters: &[ValType], answers: bool) -> u32 {
        let results: &[ValType] = if answers { &[I] } else { &[] };
        self.types
            .ty()
            .function(parameters.iter().copied(), results.iter().copied());
        self.type_count += 1;
        self.type_count - 1
    }

    fn define(&mut self, export: &str, ty: u32, function: &Function) {
        self.functions.function(ty);
        self.code.function(function);
        if !export.is_empty() && !self.guest.without.contains(&export) {
            self.exports
                .export(export, ExportKind::Func, self.next_function);
        }
        self.next_function += 1;
    }

    fn helper(&self, which: u32) -> u32 {
        u32::try_from(IMPORTS.len() + self.guest.imports.len()).unwrap() + which
    }

    fn helpers(&mut self) {
        // Adds a piece of memory to the line.
        let ty = self.ty(&[I, I], false);
        let mut function = Function::new([]);
        let mut code = function.instructions();
        code.global_get(CURSOR)
            .local_get(0)
            .local_get(1)
            .memory_copy(0, 0);
        code.global_get(CURSOR)
            .local_get(1)
            .i32_add()
            .global_set(CURSOR)
            .end();
        self.define("", ty, &function);
        // Adds a number, behind a space: finds the power of ten of its first digit, then writes
        // digit by digit.
        let ty = self.ty(&[L], false);
        let mut function = Function::new([(1, L)]);
        let mut code = function.instructions();
        code.i64_const(1).local_set(1);
        code.global_get(CURSOR)
            .i32_const(b' '.into())
            .i32_store8(at(0, 0));
        advance(&mut code, 1);
        code.loop_(wasm_encoder::BlockType::Empty);
        code.local_get(0)
            .local_get(1)
            .i64_div_u()
            .i64_const(10)
            .i64_ge_u();
        code.if_(wasm_encoder::BlockType::Empty);
        code.local_get(1)
            .i64_const(10)
            .i64_mul()
            .local_set(1)
            .br(1)
            .end()
            .end();
        code.loop_(wasm_encoder::BlockType::Empty);
        code.global_get(CURSOR);
        code.local_get(0)
            .local_get(1)
            .i64_div_u()
            .i64_const(10)
            .i64_rem_u();
        code.i64_const(b'0'.into()).i64_add().i64_store8(at(0, 0));
        advance(&mut code, 1);
        code.local_get(1)
            .i64_const(10)
            .i64_div_u()
            .local_tee(1)
            .i64_eqz()
            .i32_eqz()
            .br_if(0)
            .end();
        code.end();
        self.define("", ty, &function);
        // Logs the line.
        let ty = self.ty(&[], false);
        let mut function = Function::new([]);
        let mut code = function.instructions();
        code.i32_const(2)
            .i32_const(LINE)
            .global_get(CURSOR)
            .i32_const(LINE)
            .i32_sub();
        code.call(import("proxy_log"))
            .drop()
            .i32_const(LINE)
            .global_set(CURSOR)
            .end();
        self.define("", ty, &function);
        // Calls itself until the stack ends. The result is used, so it is no tail call.
        let ty = self.ty(&[I], true);
        let recurse = self.helper(RECURSE);
        let mut function = Function::new([]);
        let mut code = function.instructions();
        code.local_get(0)
            .i32_const(1)
            .i32_add()
            .call(recurse)
            .i32_const(1)
            .i32_add()
            .end();
        self.define("", ty, &function);
    }

    fn allocator(&mut self) {
        let ty = self.ty(&[I], true);
        let mut function = Function::new([]);
        let mut code = function.instructions();
        code.global_get(HEAP_TOP)
            .global_get(HEAP_TOP)
            .local_get(0)
            .i32_const(15)
            .i32_add();
        code.i32_const(-8)
            .i32_and()
            .i32_add()
            .global_set(HEAP_TOP)
            .end();
        self.define("proxy_on_memory_allocate", ty, &function);
    }

    fn callback(&mut self, callback: Callback) {
        let (parameters, answer) = shape(callback);
        let ty = self.ty(&vec![I; parameters as usize], answer.is_some());
        let counter = FIRST_COUNTER + self.counters;
        self.counters += 1;
        let mut function = Function::new([]);
        let mut code = function.instructions();
        code.global_get(counter)
            .i32_const(1)
            .i32_add()
            .global_set(counter);
        if callback != Callback::Initialize {
            self.line(&mut code, callback.name().trim_start_matches("proxy_"));
            for parameter in 0..parameters {
                code.local_get(parameter)
                    .i64_extend_i32_u()
                    .call(self.helper(ADD_NUMBER));
            }
            code.call(self.helper(FLUSH));
        }
        for op in self
            .guest
            .callbacks
            .get(&callback)
            .cloned()
            .unwrap_or_default()
        {
            self.op(&mut code, &op, counter, parameters);
        }
        if let Some(answer) = answer {
            code.i32_const(answer.cast_signed());
        }
        code.end();
        self.define(callback.name(), ty, &function);
    }

    /// Puts a constant into memory; gives its place and length.
    fn constant(&mut self, bytes: &[u8]) -> (i32, i32) {
        let place = TEXT + i32::try_from(self.text.len()).unwrap();
        self.text.extend_from_slice(bytes);
        (place, i32::try_from(bytes.len()).unwrap())
    }

    /// Begins a line with this text.
    fn line(&mut self, code: &mut InstructionSink<'_>, text: &str) {
        let (place, length) = self.constant(text.as_bytes());
        code.i32_const(place)
            .i32_const(length)
            .call(self.helper(ADD_TEXT));
    }

    /// Makes a host call whose arguments are on the stack and begins a line with its name and
    /// status.
    fn call(&mut self, code: &mut InstructionSink<'_>, name: &str) {
        code.call(import(name)).global_set(STATUS);
        self.line(code, name.trim_start_matches("proxy_"));
        code.global_get(STATUS)
            .i64_extend_i32_u()
            .call(self.helper(ADD_NUMBER));
    }

    /// The same, and logs the line.
    fn plain(&mut self, code: &mut InstructionSink<'_>, name: &str) {
        self.call(code, name);
        code.call(self.helper(FLUSH));
    }

    /// Logs the line with the bytes that the host call gave.
    fn with_bytes(&mut self, code: &mut InstructionSink<'_>) {
        self.line(code, " ");
        for place in [OUT, OUT + 4] {
            code.i32_const(place).i32_load(at(0, 2));
        }
        code.call(self.helper(ADD_TEXT)).call(self.helper(FLUSH));
    }

    fn push(&mut self, code: &mut InstructionSink<'_>, bytes: &[u8]) {
        let (place, length) = self.constant(bytes);
        code.i32_const(place).i32_const(length);
    }

    fn clear_out(code: &mut InstructionSink<'_>) {
        code.i32_const(OUT).i64_const(0).i64_store(at(0, 3));
        code.i32_const(OUT).i64_const(0).i64_store(at(8, 3));
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each operation")]
    fn op(&mut self, code: &mut InstructionSink<'_>, op: &Op, counter: u32, parameters: u32) {
        let number = |code: &mut InstructionSink<'_>, number: Number| {
            match number {
                Number::Is(number) => code.i32_const(number.cast_signed()),
                Number::LastCas => code.global_get(CAS),
                Number::LastToken => code.global_get(TOKEN),
                Number::SavedContext => code.global_get(SAVED_CONTEXT),
            };
        };
        Self::clear_out(code);
        match op {
            Op::Log(text) => {
                self.line(code, text);
                code.call(self.helper(FLUSH));
            }
            Op::GetHeader(map, name) => {
                code.i32_const(map.raw().cast_signed());
                self.push(code, name.as_bytes());
                code.i32_const(OUT).i32_const(OUT + 4);
                self.call(code, "proxy_get_header_map_value");
                self.with_bytes(code);
            }
            Op::AddHeader(map, name, value) | Op::ReplaceHeader(map, name, value) => {
                code.i32_const(map.raw().cast_signed());
                self.push(code, name.as_bytes());
                self.push(code, value.as_bytes());
                let add = matches!(op, Op::AddHeader(..));
                let verb = if add { "add" } else { "replace" };
                self.plain(code, &format!("proxy_{verb}_header_map_value"));
            }
            Op::RemoveHeader(map, name) => {
                code.i32_const(map.raw().cast_signed());
                self.push(code, name.as_bytes());
                self.plain(code, "proxy_remove_header_map_value");
            }
            Op::GetPairs(map) => {
                code.i32_const(map.raw().cast_signed())
                    .i32_const(OUT)
                    .i32_const(OUT + 4);
                self.call(code, "proxy_get_header_map_pairs");
                // How many pairs: the first number at the place that was returned, or none.
                code.i32_const(OUT).i32_load(at(0, 2)).i32_load(at(0, 2));
                code.i32_const(0).i32_const(OUT).i32_load(at(0, 2)).select();
                code.i64_extend_i32_u()
                    .call(self.helper(ADD_NUMBER))
                    .call(self.helper(FLUSH));
            }
            Op::SetPairs(map, bytes) => {
                code.i32_const(map.raw().cast_signed());
                self.push(code, bytes);
                self.plain(code, "proxy_set_header_map_pairs");
            }
            Op::MapSize(map) => {
                code.i32_const(map.raw().cast_signed()).i32_const(OUT);
                self.call(code, "proxy_get_header_map_size");
                self.with_number(code);
            }
            Op::GetBody(buffer, start, size) => {
                for argument in [buffer.raw(), *start, *size] {
                    code.i32_const(argument.cast_signed());
                }
                code.i32_const(OUT).i32_const(OUT + 4);
                self.call(code, "proxy_get_buffer_bytes");
                self.with_bytes(code);
            }
            Op::SetBody(buffer, start, size, data) => {
                for argument in [buffer.raw(), *start, *size] {
                    code.i32_const(argument.cast_signed());
                }
                self.push(code, data.as_bytes());
                self.plain(code, "proxy_set_buffer_bytes");
            }
            Op::BodyStatus(buffer) => {
                code.i32_const(buffer.raw().cast_signed())
                    .i32_const(OUT)
                    .i32_const(OUT + 4);
                self.call(code, "proxy_get_buffer_status");
                self.with_number(code);
            }
            Op::GetProperty(path) => {
                self.push(code, path.as_bytes());
                code.i32_const(OUT).i32_const(OUT + 4);
                self.call(code, "proxy_get_property");
                self.with_bytes(code);
            }
            Op::SetProperty(path, value) => {
                self.push(code, path.as_bytes());
                self.push(code, value.as_bytes());
                self.plain(code, "proxy_set_property");
            }
            Op::GetShared(key) => {
                self.push(code, key.as_bytes());
                code.i32_const(OUT).i32_const(OUT + 4).i32_const(OUT + 8);
                self.call(code, "proxy_get_shared_data");
                code.i32_const(OUT).i32_load(at(8, 2)).global_set(CAS);
                self.with_bytes(code);
            }
            Op::SetShared(key, value, cas) => {
                self.push(code, key.as_bytes());
                self.push(code, value.as_bytes());
                number(code, *cas);
                self.plain(code, "proxy_set_shared_data");
            }
            Op::RegisterQueue(name) => {
                self.push(code, name.as_bytes());
                code.i32_const(OUT);
                self.call(code, "proxy_register_shared_queue");
                self.with_token(code);
            }
            Op::ResolveQueue(vm, name) => {
                self.push(code, vm.as_bytes());
                self.push(code, name.as_bytes());
                code.i32_const(OUT);
                self.call(code, "proxy_resolve_shared_queue");
                self.with_token(code);
            }
            Op::Enqueue(token, value) => {
                number(code, *token);
                self.push(code, value.as_bytes());
                self.plain(code, "proxy_enqueue_shared_queue");
            }
            Op::Dequeue(token) => {
                number(code, *token);
                code.i32_const(OUT).i32_const(OUT + 4);
                self.call(code, "proxy_dequeue_shared_queue");
                self.with_bytes(code);
            }
            Op::DefineMetric(kind, name) => {
                code.i32_const(kind.cast_signed());
                self.push(code, name.as_bytes());
                code.i32_const(OUT);
                self.call(code, "proxy_define_metric");
                self.with_token(code);
            }
            Op::Increment(id, offset) => {
                number(code, *id);
                code.i64_const(*offset);
                self.plain(code, "proxy_increment_metric");
            }
            Op::Record(id, value) => {
                number(code, *id);
                code.i64_const(value.cast_signed());
                self.plain(code, "proxy_record_metric");
            }
            Op::GetMetric(id) => {
                number(code, *id);
                code.i32_const(OUT);
                self.call(code, "proxy_get_metric");
                self.with_number(code);
            }
            Op::HttpCall {
                cluster,
                headers,
                body,
                timeout,
            } => {
                self.push(code, cluster.as_bytes());
                self.push(code, &serialize(headers));
                self.push(code, body.as_bytes());
                self.push(code, b"");
                code.i32_const(timeout.cast_signed()).i32_const(OUT);
                self.call(code, "proxy_http_call");
                self.with_token(code);
            }
            Op::GrpcCall {
                cluster,
                message,
                timeout,
            } => {
                self.push(code, cluster.as_bytes());
                self.push(code, b"service");
                self.push(code, b"Method");
                self.push(code, b"");
                self.push(code, message.as_bytes());
                code.i32_const(timeout.cast_signed()).i32_const(OUT);
                self.call(code, "proxy_grpc_call");
                self.with_token(code);
            }
            Op::GrpcStream { cluster } => {
                self.push(code, cluster.as_bytes());
                self.push(code, b"service");
                self.push(code, b"Method");
                self.push(code, b"");
                code.i32_const(OUT);
                self.call(code, "proxy_grpc_stream");
                self.with_token(code);
            }
            Op::GrpcSend(token, message) => {
                number(code, *token);
                self.push(code, message.as_bytes());
                code.i32_const(1);
                self.plain(code, "proxy_grpc_send");
            }
            Op::GrpcCancel(token) => {
                number(code, *token);
                self.plain(code, "proxy_grpc_cancel");
            }
            Op::GrpcClose(token) => {
                number(code, *token);
                self.plain(code, "proxy_grpc_close");
            }
            Op::GetStatus => {
                code.i32_const(OUT + 8).i32_const(OUT).i32_const(OUT + 4);
                self.call(code, "proxy_get_status");
                code.i32_const(OUT).i32_load(at(8, 2)).i64_extend_i32_u();
                code.call(self.helper(ADD_NUMBER));
                self.with_bytes(code);
            }
            Op::Reply {
                status,
                headers,
                body,
                grpc,
            } => {
                code.i32_const(status.cast_signed());
                self.push(code, b"detail");
                self.push(code, body.as_bytes());
                self.push(code, &serialize(headers));
                code.i32_const(*grpc);
                self.plain(code, "proxy_send_local_response");
            }
            Op::Continue(stream) => {
                code.i32_const(stream.cast_signed());
                self.plain(code, "proxy_continue_stream");
            }
            Op::Close(stream) => {
                code.i32_const(stream.cast_signed());
                self.plain(code, "proxy_close_stream");
            }
            Op::SaveContext => {
                code.local_get(0).global_set(SAVED_CONTEXT);
            }
            Op::Act(context) => {
                number(code, *context);
                self.plain(code, "proxy_set_effective_context");
            }
            Op::Done => self.plain(code, "proxy_done"),
            Op::Tick(milliseconds) => {
                code.i32_const(milliseconds.cast_signed());
                self.plain(code, "proxy_set_tick_period_milliseconds");
            }
            Op::Time => {
                code.i32_const(OUT);
                self.call(code, "proxy_get_current_time_nanoseconds");
                self.with_number(code);
            }
            Op::WasiTime(clock) => {
                code.i32_const(clock.cast_signed())
                    .i64_const(0)
                    .i32_const(OUT);
                self.call(code, "clock_time_get");
                self.with_number(code);
            }
            Op::Random(size) => {
                code.i32_const(OUT).i32_const(size.cast_signed());
                self.call(code, "random_get");
                self.with_number(code);
            }
            Op::Environment => {
                // The text goes to the line's own memory; its pointers behind.
                code.i32_const(OUT).i32_const(OUT + 4);
                self.call(code, "environ_sizes_get");
                code.i32_const(OUT).i32_load(at(0, 2)).i64_extend_i32_u();
                code.call(self.helper(ADD_NUMBER));
                code.i32_const(512)
                    .i32_const(600)
                    .call(import("environ_get"))
                    .drop();
                code.i32_const(OUT).i32_const(600).i32_store(at(0, 2));
                self.with_bytes(code);
            }
            Op::Print(file, text) => {
                let (place, length) = self.constant(text.as_bytes());
                code.i32_const(OUT).i32_const(place).i32_store(at(0, 2));
                code.i32_const(OUT).i32_const(length).i32_store(at(4, 2));
                code.i32_const(file.cast_signed())
                    .i32_const(OUT)
                    .i32_const(1);
                code.i32_const(OUT + 8);
                self.call(code, "fd_write");
                code.i32_const(OUT).i32_load(at(8, 2)).i64_extend_i32_u();
                code.call(self.helper(ADD_NUMBER)).call(self.helper(FLUSH));
            }
            Op::Foreign(name) => {
                self.push(code, name.as_bytes());
                self.push(code, b"");
                code.i32_const(OUT).i32_const(OUT + 4);
                self.plain(code, "proxy_call_foreign_function");
            }
            Op::Exit(exit) => {
                code.i32_const(exit.cast_signed()).call(import("proc_exit"));
            }
            Op::Trap => {
                // Behind a condition, so that what follows is still reachable code.
                code.i32_const(1)
                    .if_(wasm_encoder::BlockType::Empty)
                    .unreachable()
                    .end();
            }
            Op::Loop => {
                code.loop_(wasm_encoder::BlockType::Empty)
                    .i32_const(1)
                    .br_if(0)
                    .end();
            }
            Op::Recurse => {
                code.i32_const(0).call(self.helper(RECURSE)).drop();
            }
            Op::Grow(pages) => {
                code.i32_const(pages.cast_signed()).memory_grow(0).drop();
            }
            Op::Nth(n, ops) => {
                code.global_get(counter).i32_const(n.cast_signed()).i32_eq();
                self.when(code, ops, counter, parameters);
            }
            Op::IfLast(value, ops) => {
                code.local_get(parameters - 1)
                    .i32_const(value.cast_signed())
                    .i32_eq();
                self.when(code, ops, counter, parameters);
            }
            Op::Return(value) => {
                code.i32_const(value.cast_signed()).return_();
            }
        }
    }

    fn when(&mut self, code: &mut InstructionSink<'_>, ops: &[Op], counter: u32, parameters: u32) {
        code.if_(wasm_encoder::BlockType::Empty);
        for op in ops {
            self.op(code, op, counter, parameters);
        }
        code.end();
    }

    /// Logs the line with the number that the host call gave, 64 bits wide.
    fn with_number(&mut self, code: &mut InstructionSink<'_>) {
        code.i32_const(OUT)
            .i64_load(at(0, 3))
            .call(self.helper(ADD_NUMBER));
        code.call(self.helper(FLUSH));
    }

    /// Keeps the number that the host call gave, and logs the line with it.
    fn with_token(&mut self, code: &mut InstructionSink<'_>) {
        code.i32_const(OUT).i32_load(at(0, 2)).global_set(TOKEN);
        self.with_number(code);
    }
}

fn import(name: &str) -> u32 {
    let at = IMPORTS.iter().position(|(_, import, _)| *import == name);
    u32::try_from(at.unwrap_or_else(|| panic!("guests do not import {name}"))).unwrap()
}

fn at(offset: u64, align: u32) -> MemArg {
    MemArg {
        offset,
        align,
        memory_index: 0,
    }
}

fn advance(code: &mut InstructionSink<'_>, by: i32) {
    code.global_get(CURSOR)
        .i32_const(by)
        .i32_add()
        .global_set(CURSOR);
}
