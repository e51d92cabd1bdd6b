/* A guest of a few hundred bytes that can be watched from outside.
 *
 * Twenty times a second it dirties PAGES pages, walking round the memory between 4 MiB and END, and
 * writes one line to the first serial port: BOOT COUNT, both as eight hexadecimal digits. BOOT is drawn
 * once from the clocks, COUNT goes up by one with each line. So a reader of the serial file sees
 *   running    lines keep coming, COUNT goes up
 *   paused     no lines
 *   restarted  another BOOT
 *   two copies one BOOT, a COUNT that was there before
 * Between beats it halts: a lab full of guests leaves the processor to the others.
 *
 * With SECTORS (a power of two, to 128) it first writes BOOT and COUNT, two little-endian words, to sector
 * COUNT modulo SECTORS of the first IDE disk: the sectors hold the last SECTORS beats, whatever moved the disk.
 *
 *   as --32 --defsym END=0x4000000 --defsym PAGES=102 guest.S -o guest.o
 *   ld -m elf_i386 -e start -Ttext 0x100000 --oformat binary guest.o -o guest.img
 */
.code32
.set MAGIC, 0x1BADB002
.set FLAGS, 0x00010000
.set DIVISOR, 59659             /* 1193182 Hz / 20 */
.set BOTTOM, 0x400000

.align 4
header: .long MAGIC, FLAGS, -(MAGIC + FLAGS), header, header, end, end, start

.align 8
gdt:    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr:   .word gdtr - gdt - 1
        .long gdt
.align 8
idt:    .fill 8, 8, 0           /* the BIOS left IRQ 0 at vector 8 */
timer:  .quad 0
idtr:   .word idtr - idt - 1
        .long idt

.globl start
start:
  cli
  movl $stack, %esp
  lgdt gdtr
  ljmp $8, $1f
1:
  movw $16, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss

  movl $tick, %eax              /* a 32-bit interrupt gate, split into its two halves */
  movw %ax, timer
  movw $8, timer + 2
  movw $0x8e00, timer + 4
  shrl $16, %eax
  movw %ax, timer + 6
  lidt idtr

  movb $0xfe, %al               /* only the timer */
  outb %al, $0x21
  movb $0xff, %al
  outb %al, $0xa1
  movb $0x34, %al
  outb %al, $0x43
  movw $DIVISOR, %ax
  outb %al, $0x40
  movb %ah, %al
  outb %al, $0x40

  rdtsc
  movl %eax, %ebp
  xorb %al, %al                 /* the seconds of the real time clock into the top byte */
  outb %al, $0x70
  inb $0x71, %al
  shll $24, %eax
  xorl %eax, %ebp

  xorl %ebx, %ebx
  movl $BOTTOM, %edi
beat:
  sti
  hlt
  movl $PAGES, %ecx
  jecxz 3f
page:
  incb (%edi)
  addl $4096, %edi
  cmpl $END, %edi
  jb 2f
  movl $BOTTOM, %edi
2:
  loop page
3:
  incl %ebx
.ifdef SECTORS
  call record
.endif
  movw $0x3f8, %dx
  movl %ebp, %eax
  call hex
  movb $' ', %al
  outb %al, %dx
  movl %ebx, %eax
  call hex
  movb $'\n', %al
  outb %al, %dx
  jmp beat

hex:                            /* %eax to the port in %dx */
  movl %eax, %esi
  movl $8, %ecx
digit:
  roll $4, %esi
  movl %esi, %eax
  andb $15, %al
  cmpb $10, %al
  jb 4f
  addb $('a' - '0' - 10), %al
4:
  addb $'0', %al
  outb %al, %dx
  loop digit
  ret

.ifdef SECTORS
record:
  movl %ebp, sector
  movl %ebx, sector + 4
  movw $0x1f7, %dx
busy:
  inb %dx, %al
  testb $0x80, %al
  jnz busy
  movl %ebx, %eax
  andb $(SECTORS - 1), %al
  movb %al, %ah                 /* the sector's number; the drive's other registers are constant */
  movw $0x1f6, %dx
  movb $0xe0, %al
  outb %al, %dx
  movw $0x1f2, %dx
  movb $1, %al
  outb %al, %dx
  incw %dx
  movb %ah, %al
  outb %al, %dx
  xorb %al, %al
  incw %dx
  outb %al, %dx
  incw %dx
  outb %al, %dx
  movw $0x1f7, %dx
  movb $0x30, %al               /* write sectors */
  outb %al, %dx
ready:
  inb %dx, %al
  testb $8, %al
  jz ready
  movl $sector, %esi
  movl $256, %ecx
  movw $0x1f0, %dx
  cld
  rep outsw
  ret
.align 4
sector: .fill 512, 1, 0
.endif

tick:
  pushl %eax
  movb $0x20, %al
  outb %al, $0x20
  popl %eax
  iret

.align 16
.fill 256, 1, 0
stack:
end:
